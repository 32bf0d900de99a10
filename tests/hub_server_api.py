"""The routes of the double that are no files: accounts, repositories, history, discussions, Spaces, pages.

See `hub_server.py` for how to use it, `hub_server_files.py` for the files.
"""

from __future__ import annotations

import hashlib
import html
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import hub_server_cards as cards
from hub_server_routes import FILES, REPO, Answer, Call, answer, page, route
from hub_server_store import PREFIX, TYPES, HubError, Repo, now

if TYPE_CHECKING:
    from hub_server import Hub


# Accounts


@route("GET", r"/api/whoami-v2", "whoami")
def whoami(call: Call) -> Answer:
    hub, user = call.hub, call.hub.need_user(call)
    orgs = [{"type": "org", "name": org, "fullname": org, "roleInOrg": "write"} for org in hub.orgs_of(user)]
    token: dict[str, Any] = {"displayName": "a token of the double", "role": call.role, "createdAt": now()}
    if call.role == "fineGrained":
        held = hub.token_of(call)
        scoped = [{"entity": {"type": "repo", "name": s}, "permissions": ["repo.write"]} for s in held.scopes]
        token["fineGrained"] = {"canReadGatedRepos": True, "global": [], "scoped": scoped}
    body: dict[str, Any] = {
        "type": "user",
        "id": user,
        "name": user,
        "fullname": user.title(),
        "email": f"{user}@example.org",
    }
    body |= {"emailVerified": True, "canPay": False, "isPro": False, "avatarUrl": "", "orgs": orgs}
    return answer(body | {"auth": {"type": "access_token", "accessToken": token}})


@route("GET", r"/api/(?:users|organizations)/(?P<name>[^/]+)/overview", "whoami")
def overview(call: Call) -> Answer:
    name = call.args["name"]
    if name not in call.hub.users and name not in call.hub.orgs:
        raise HubError(404, "This user does not exist")
    kinds = [repo.kind for repo in call.hub.repos.values() if repo.namespace == name]
    count = {f"num{kind.title()}s": kinds.count(kind) for kind in TYPES}
    return answer({"user": name, "name": name, "fullname": name.title(), "avatarUrl": "", **count})


# Repositories


@route("POST", r"/api/repos/create", "create")
def create(call: Call) -> Answer:
    user, asked = call.hub.need_user(call), call.json
    kind = asked.get("type") or "model"
    name = f"{asked.get('organization') or user}/{asked['name']}"
    call.hub.may_write(call, name)
    url = f"{call.hub.endpoint}/{PREFIX[kind]}{name}"
    if (kind, name) in call.hub.repos:
        words = "You already created this repo"
        raise HubError(409, words, body={"error": words, "url": url})
    if not re.fullmatch(r"[\w.-]{1,96}", asked["name"]) or asked["name"].endswith((".git", ".ipynb")):
        raise HubError(400, "Invalid repo name")
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    repo = call.hub.create(name, kind, private=private, sdk=asked.get("sdk"), author=user)
    repo.secrets = {s["key"]: s["value"] for s in asked.get("secrets") or []}
    repo.variables = {s["key"]: s["value"] for s in asked.get("variables") or []}
    return answer({"url": url, "name": name, "id": name, "private": private})


@route("DELETE", r"/api/repos/delete", "delete")
def delete(call: Call) -> Answer:
    user, asked = call.hub.need_user(call), call.json
    name = f"{asked.get('organization') or user}/{asked['name']}"
    call.args |= {"types": f"{asked.get('type') or 'model'}s", "id": name}
    repo = call.repo(write=True)
    del call.hub.repos[repo.kind, repo.name]
    return answer({})


@route("POST", r"/api/repos/move", "settings")
def move(call: Call) -> Answer:
    asked = call.json
    call.args |= {"types": f"{asked['type']}s", "id": asked["fromRepo"]}
    repo = call.repo(write=True)
    call.hub.may_write(call, asked["toRepo"])
    if (repo.kind, asked["toRepo"]) in call.hub.repos:
        raise HubError(409, "This repo already exists")
    call.hub.repos[repo.kind, asked["toRepo"]] = call.hub.repos.pop((repo.kind, repo.name))
    repo.name = asked["toRepo"]
    return answer({})


@route("PUT", rf"{REPO}/settings", "settings")
def settings(call: Call) -> Answer:
    repo, asked = call.repo(write=True), call.json
    if "visibility" in asked or "private" in asked:
        repo.private = asked.get("visibility") == "private" or bool(asked.get("private"))
    repo.gated = asked.get("gated", repo.gated)
    return answer({"private": repo.private, "gated": repo.gated})


@route("GET", rf"{REPO}/auth-check(?P<write>/write)?", "info")
def auth_check(call: Call) -> Answer:
    repo = call.repo(write=bool(call.args.get("write")))
    call.hub.may_read_files(call, repo)
    return answer({})


def describe(hub: Hub, repo: Repo, sha: str, query: dict[str, list[str]]) -> dict:
    tree = repo.commits[sha].files
    wanted = {"README.md", "config.json", "model.safetensors"}
    files = {p: repo.read(f) if p in wanted else b"" for p, f in tree.items()}
    dates = [repo.history()[-1].date, repo.history()[0].date]
    info: dict[str, Any] = {
        "_id": hashlib.sha1(repo.name.encode()).hexdigest()[:24],
        "id": repo.name,
        "author": repo.namespace,
    }
    info |= {"sha": sha, "private": repo.private, "gated": repo.gated, "disabled": False, "downloads": 0, "likes": 0}
    info |= {"createdAt": dates[0], "lastModified": dates[1], "usedStorage": repo.size}
    info |= cards.describe(files, repo.kind)
    info["siblings"] = [{"rfilename": path} for path in tree]
    if "true" in [v.lower() for v in query.get("blobs", [])]:
        for item, file in zip(info["siblings"], tree.values(), strict=True):
            item |= {"size": file.size, "blobId": file.oid}
            if file.sha256:
                item["lfs"] = {"size": file.size, "sha256": file.sha256, "pointerSize": len(file.pointer)}
    if repo.kind == "model":
        info["modelId"] = repo.name
    if repo.kind == "space":
        card = info["cardData"] or {}
        info |= {"sdk": card.get("sdk") or repo.sdk, "subdomain": repo.name.replace("/", "-"), "host": repo.host}
        info |= {"runtime": runtime(repo), "models": card.get("models") or [], "datasets": card.get("datasets") or []}
    if "expand" in query or "expand[]" in query:
        keys = {"_id", "id", *query.get("expand", []), *query.get("expand[]", [])}
        info = {key: value for key, value in info.items() if key in keys}
    return info


@route("GET", rf"{REPO}(?:/revision/(?P<rev>[^/]+))?", "info")
def info(call: Call) -> Answer:
    repo = call.repo()
    return answer(describe(call.hub, repo, repo.resolve(call.args.get("rev") or "main"), call.query))


@route("GET", r"/api/(?P<types>models|datasets|spaces)", "list")
def listing(call: Call) -> Answer:
    def one(name: str) -> str:
        return call.query.get(name, [""])[-1]

    found = []
    for repo in call.hub.repos.values():
        if repo.kind != call.kind or not call.hub.may_see(call, repo):
            continue
        item = describe(call.hub, repo, repo.resolve("main"), call.query)
        fits = (not one("author") or repo.namespace == one("author")) and one("search").lower() in repo.name.lower()
        fits = fits and set(call.query.get("filter", [])) <= {*item.get("tags", []), item.get("library_name")}
        if fits and one("pipeline_tag") in ("", item.get("pipeline_tag")):
            found.append(item)
    return page(call, found, int(one("limit") or 1000))


@route("GET", r"/api/(?:organizations/(?P<name>[^/]+)/)?settings/repositories", "list")
def own(call: Call) -> Answer:
    name = call.args.get("name") or call.hub.need_user(call)
    found = [r for r in call.hub.repos.values() if r.namespace == name and call.hub.may_see(call, r)]
    rows = [
        {"id": r.name, "type": r.kind, "updatedAt": r.history()[0].date, "storage": r.size, "storagePercent": 0}
        | {"visibility": "private" if r.private else "public"}
        for r in found
    ]
    return page(call, rows, 100)


# History


@route("GET", rf"{REPO}/refs", "refs")
def refs(call: Call) -> Answer:
    repo = call.repo()
    found: dict[str, list] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    kinds = {"heads": "branches", "convert": "converts", "tags": "tags", "pr": "pullRequests"}
    for ref, sha in repo.refs.items():
        _, kind, name = ref.split("/", 2)
        found[kinds[kind]].append({"name": name, "ref": ref, "targetCommit": sha})
    if not call.flag("include_prs"):
        del found["pullRequests"]
    return answer(found)


@route("POST", rf"{REPO}/branch/(?P<name>[^/]+)", "refs")
def add_branch(call: Call) -> Answer:
    return add_ref(call, f"refs/heads/{call.args['name']}", call.json.get("startingPoint") or "main")


@route("POST", rf"{REPO}/tag/(?P<rev>[^/]+)", "refs")
def add_tag(call: Call) -> Answer:
    return add_ref(call, f"refs/tags/{call.json['tag']}", call.args["rev"])


def add_ref(call: Call, ref: str, revision: str) -> Answer:
    repo = call.repo(write=True)
    if ref in repo.refs:
        raise HubError(409, f"Reference already exists: {ref}")
    repo.refs[ref] = repo.resolve(revision)
    return answer({})


@route("DELETE", rf"{REPO}/(?P<kind>branch|tag)/(?P<name>[^/]+)", "refs")
def drop_ref(call: Call) -> Answer:
    repo = call.repo(write=True)
    ref = f"refs/{'heads' if call.args['kind'] == 'branch' else 'tags'}/{call.args['name']}"
    if ref == "refs/heads/main":
        raise HubError(403, "The main branch cannot be deleted")
    if repo.refs.pop(ref, None) is None:
        raise HubError(404, f"{call.args['name']} does not exist", "RevisionNotFound")
    return answer({})


@route("GET", rf"{REPO}/commits/(?P<rev>[^/]+)", "refs")
def commits(call: Call) -> Answer:
    found = [
        {"id": c.sha, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
        for c in call.repo().history(call.args["rev"])
    ]
    return page(call, found, 50)


@route("POST", rf"{REPO}/super-squash/(?P<rev>[^/]+)", "refs")
def squash(call: Call) -> Answer:
    repo = call.repo(write=True)
    ref = repo.branch(call.args["rev"])
    new = repo.commit({}, call.json.get("message") or "Super-squash", author=call.user or "", revision=ref)
    new.parent = None
    return answer({})


# Discussions and pull requests


def discussion(repo: Repo, item: dict, whole: bool = True) -> dict:
    shown = {key: item[key] for key in ("num", "title", "status", "isPullRequest", "createdAt")}
    shown |= {"author": {"name": item["author"]}, "repo": {"name": repo.name, "type": repo.kind}}
    if whole:
        shown |= {"events": item["events"], "filesWithConflicts": False, "diff": ""}
        shown["changes"] = {"base": "refs/heads/main", "mergeCommitId": item["merged"]}
    return shown


def find_discussion(repo: Repo, number: str) -> dict:
    if not 1 <= int(number) <= len(repo.discussions):
        raise HubError(404, "This discussion does not exist")
    return repo.discussions[int(number) - 1]


@route("GET", rf"{REPO}/discussions", "discussion")
def discussions(call: Call) -> Answer:
    repo = call.repo()
    found = [discussion(repo, item, whole=False) for item in reversed(repo.discussions)]
    return answer({"discussions": found, "count": len(found), "start": 0})


@route("POST", rf"{REPO}/discussions", "discussion")
def discuss(call: Call) -> Answer:
    repo, asked = call.repo(), call.json
    text, pull = asked.get("description") or "", bool(asked.get("pullRequest"))
    return answer({"num": repo.discuss(asked["title"], call.hub.need_user(call), text, pull)["num"]})


@route("GET", rf"{REPO}/discussions/(?P<num>\d+)", "discussion")
def show_discussion(call: Call) -> Answer:
    repo = call.repo()
    return answer(discussion(repo, find_discussion(repo, call.args["num"])))


@route("POST", rf"{REPO}/discussions/(?P<num>\d+)/(?P<what>comment|status|title|merge)", "discussion")
def change_discussion(call: Call) -> Answer:
    what, asked, user = call.args["what"], call.json, call.hub.need_user(call)
    repo = call.repo(write=what == "merge")
    item = find_discussion(repo, call.args["num"])
    if what == "merge":
        repo.merge(item["num"], user)
        return answer({})
    if what == "comment":
        data: dict = {"edited": False, "hidden": False, "latest": {"raw": asked["comment"]}}
        return answer({"newMessage": repo.say(item, "comment", user, data)})
    if what == "title":
        data, item["title"] = {"from": item["title"], "to": asked["title"]}, asked["title"]
        return answer({"newTitle": repo.say(item, "title-change", user, data)})
    item["status"] = asked["status"]
    return answer({"newStatus": repo.say(item, "status-change", user, {"status": asked["status"]})})


# Spaces


def runtime(repo: Repo) -> dict:
    stage = "PAUSED" if repo.paused else "RUNNING" if repo.host else "BUILDING"
    if not repo.host and "app.py" not in repo.tree() and repo.sdk != "static":
        stage = "NO_APP_FILE"
    hardware = {"current": repo.hardware, "requested": repo.hardware}
    return {"stage": stage, "hardware": hardware, "gcTimeout": 172800, "storage": None, "replicas": {"current": 1}}


@route("GET", r"/api/(?P<types>spaces)/(?P<id>[^/]+/[^/]+)/(?P<what>runtime|host|secrets|variables)", "space")
def space(call: Call) -> Answer:
    repo, what = call.repo(write=call.args["what"] in ("secrets", "variables")), call.args["what"]
    if what == "secrets":
        return answer({key: {"key": key, "updatedAt": now()} for key in repo.secrets})
    if what == "variables":
        return answer({key: {"key": key, "value": value, "updatedAt": now()} for key, value in repo.variables.items()})
    if what == "host":
        return answer({"subdomain": repo.name.replace("/", "-"), "host": repo.host or ""})
    return answer(runtime(repo))


@route("POST", r"/api/(?P<types>spaces)/(?P<id>[^/]+/[^/]+)/(?P<what>\w+)", "space")
def change_space(call: Call) -> Answer:
    repo, what, asked = call.repo(write=True), call.args["what"], call.json
    if what in ("secrets", "variables"):
        getattr(repo, what)[asked["key"]] = asked["value"]
        return answer({})
    if what == "hardware":
        repo.hardware = asked["flavor"]
    repo.paused = what == "pause"
    return answer(runtime(repo))


@route("DELETE", r"/api/(?P<types>spaces)/(?P<id>[^/]+/[^/]+)/(?P<what>secrets|variables)", "space")
def drop_from_space(call: Call) -> Answer:
    getattr(call.repo(write=True), call.args["what"]).pop(call.json["key"], None)
    return answer({})


# Pages for a person


@route("GET", r"/", "page")
def front_page(call: Call) -> Answer:
    rows = [
        f'<li><a href="/{r.path}">{r.path}</a>{" (private)" if r.private else ""}, {len(r.tree())} files</li>'
        for r in call.hub.repos.values()
    ]
    body = f"<ul>{''.join(rows)}</ul>" if rows else "<p>No repository yet.</p>"
    return html_page("A Hub of your own", f"<p>Kept in memory, gone when the server stops.</p>{body}")


@route("GET", FILES, "page")
def repo_page(call: Call) -> Answer:
    repo = call.hub.repos.get((call.kind, call.args["id"]))
    if repo is None:
        raise HubError(404, "Repository not found", "RepoNotFound")
    files = "".join(
        f'<li><a href="/{repo.path}/resolve/main/{quote(p)}">{html.escape(p)}</a>, {f.size} bytes</li>'
        for p, f in repo.tree().items()
    )
    log = "".join(f"<li>{c.sha[:7]} {html.escape(c.title)}, by {c.author}</li>" for c in repo.history())
    card = html.escape(repo.files().get("README.md", b"").decode(errors="replace"))
    text = f"<p><a href='/'>all repositories</a></p><ul>{files}</ul><h2>History</h2><ul>{log}</ul>"
    return html_page(repo.path, f"{text}<h2>README.md</h2><pre>{card}</pre>")


def html_page(title: str, body: str) -> Answer:
    text = f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1>{body}"
    return Answer(200, text.encode(), {"Content-Type": "text/html; charset=utf-8"})


@route("GET", r"/api/telemetry/.*", "other")
@route("GET", r"/api/(?:models|datasets)-tags-by-type", "other")
def nothing(call: Call) -> Answer:
    return answer({})
