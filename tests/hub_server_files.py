"""The routes for files: listed, read, committed, and the large ones by LFS and by xet. See `hub_server.py`."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re
import secrets
import time
from typing import Any
from urllib.parse import quote

import hub_server_cards as cards
from hub_server_routes import FILES, REPO, Answer, Call, answer, page, route
from hub_server_store import File, HubError, Repo

PART = 16 * 2**20  # bytes of one part of a multipart upload


def entry(repo: Repo, path: str, file: File, expand: bool, sha: str) -> dict:
    item: dict[str, Any] = {"type": "file", "path": path, "size": file.size, "oid": file.oid}
    if file.sha256:
        item["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
        if file.sha256 in repo.storage.xet:
            item["xetHash"] = repo.storage.xet[file.sha256]
    return item | (last(repo, path, sha) if expand else {})


def last(repo: Repo, path: str, sha: str) -> dict:
    """The commit that last touched a path."""
    commit = repo.commits[sha]
    while commit.parent and repo.commits[commit.parent].files.get(path) == commit.files.get(path):
        commit = repo.commits[commit.parent]
    return {"lastCommit": {"id": commit.sha, "title": commit.title, "date": commit.date}}


def folder(path: str, tree: dict[str, File]) -> dict:
    inside = "".join(f"{p} {f.oid}" for p, f in tree.items() if p.startswith(f"{path}/"))
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(inside.encode()).hexdigest()}


def folders(tree: dict[str, File]) -> list[str]:
    return sorted({"/".join(p.split("/")[:i]) for p in tree for i in range(1, p.count("/") + 1)})


@route("GET", rf"{REPO}/tree/(?P<rev>[^/]+)(?:/(?P<path>.*))?", "tree")
def tree(call: Call) -> Answer:
    repo = call.repo()
    sha, under = repo.resolve(call.args["rev"]), (call.args.get("path") or "").strip("/")
    files, expand = repo.commits[sha].files, call.flag("expand")
    if under and under not in folders(files):
        raise HubError(404, f'{under} does not exist on "{call.args["rev"]}"', "EntryNotFound")
    start = f"{under}/" if under else ""

    def chosen(path: str) -> bool:
        return path.startswith(start) and (call.flag("recursive") or "/" not in path[len(start) :])

    items = [folder(p, files) | (last(repo, p, sha) if expand else {}) for p in folders(files) if chosen(p)]
    items += [entry(repo, p, f, expand, sha) for p, f in files.items() if chosen(p)]
    size = int(call.query.get("limit", [str(min(call.hub.page_size, 50 if expand else 1000))])[-1])
    return page(call, sorted(items, key=lambda item: item["path"]), size)


@route("POST", rf"{REPO}/paths-info/(?P<rev>[^/]+)", "paths")
def paths_info(call: Call) -> Answer:
    repo, form = call.repo(), call.hub.form(call.body)
    if call.headers.get("Content-Type", "").startswith("application/json"):
        form = {"paths": call.json["paths"], "expand": [str(call.json.get("expand"))]}
    sha = repo.resolve(call.args["rev"])
    files, found = repo.commits[sha].files, []
    expand = form.get("expand", [""])[-1].lower() == "true"
    for path in form.get("paths", []):
        if path in files:
            found.append(entry(repo, path, files[path], expand, sha))
        elif path in folders(files):
            found.append(folder(path, files))
    return answer(found)


@route("GET", rf"{FILES}/(?:resolve|raw)/(?P<rev>[^/]+)/(?P<path>.+)", "resolve")
def resolve(call: Call) -> Answer:
    repo = call.repo()
    call.hub.may_read_files(call, repo)
    sha, path = repo.resolve(call.args["rev"]), call.args["path"]
    file = repo.commits[sha].files.get(path)
    head = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
    if file is None:
        raise HubError(404, "Entry not found", "EntryNotFound", headers=head)
    name = path.rsplit("/", 1)[-1]
    head |= {"ETag": f'"{file.oid}"', "Content-Disposition": f'inline; filename="{quote(name)}";'}
    if not file.sha256:
        types = {"json": "application/json", "md": "text/plain; charset=utf-8", "html": "text/plain; charset=utf-8"}
        head["Content-Type"] = types.get(name.rsplit(".", 1)[-1], "text/plain; charset=utf-8")
        return ranged(call, repo.read(file), head)
    head |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.sha256}"'}
    head["Location"] = f"{call.hub.blob_origin}/_blobs/{file.sha256}"
    if file.sha256 in repo.storage.xet:
        head["X-Xet-Hash"] = repo.storage.xet[file.sha256]
        token = f"{call.hub.endpoint}/api/{repo.kind}s/{repo.name}/xet-read-token/{sha}"
        head["Link"] = f'<{token}>; rel="xet-auth"'
    return Answer(302, f"Found. Redirecting to {head['Location']}".encode(), head)


def ranged(call: Call, data: bytes, head: dict[str, str]) -> Answer:
    """The bytes that a Range header asks for: 206, or 416 when there are none."""
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("Range") or "")
    if not asked or asked.groups() == ("", ""):
        return Answer(200, data, head)
    size = len(data)
    start = max(0, size - int(asked[2])) if not asked[1] else int(asked[1])
    end = min(size - 1, int(asked[2])) if asked[1] and asked[2] else size - 1
    if start > end:
        raise HubError(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{size}"})
    return Answer(206, data[start : end + 1], head | {"Content-Range": f"bytes {start}-{end}/{size}"})


# Writing


@route("POST", r"/api/validate-yaml", "validate")
def validate_yaml(call: Call) -> Answer:
    errors, warnings = cards.validate(call.json["content"], call.json.get("repoType") or "model")
    body = {"errors": [{"message": m} for m in errors], "warnings": [{"message": m} for m in warnings]}
    return answer(body, 400 if errors else 200)


@route("POST", rf"{REPO}/preupload/(?P<rev>[^/]+)", "preupload")
def preupload(call: Call) -> Answer:
    repo = call.repo(write=not call.flag("create_pr"))
    files, ignored = repo.tree(call.args["rev"]), call.json.get("gitIgnore") or ""
    patterns = [line.strip() for line in ignored.splitlines() if line.strip() and not line.startswith("#")]
    found = []
    for asked in call.json["files"]:
        path, sample = asked["path"], base64.b64decode(asked.get("sample") or "")
        mode = "lfs" if repo.is_large(path, asked["size"], sample) else "regular"
        skip = any(fnmatch.fnmatch(path, p) or fnmatch.fnmatch(path, f"{p.rstrip('/')}/*") for p in patterns)
        item = {"path": path, "uploadMode": mode, "shouldIgnore": skip}
        if path in files:
            item["oid"] = files[path].key
        found.append(item)
    return answer({"files": found, "commitOid": repo.resolve(call.args["rev"])})


@route("POST", rf"{REPO}/commit/(?P<rev>[^/]+)", "commit")
def commit(call: Call) -> Answer:
    pull = call.flag("create_pr")
    repo, user = call.repo(write=not pull), call.hub.need_user(call)
    lines = [json.loads(line) for line in call.body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    ref = repo.branch(call.args["rev"])
    change = changes(call, repo, lines, repo.tree(ref))
    if call.hub.quota is not None:
        added = sum(f.size if isinstance(f, File) else len(f) for f in change.values() if f is not None)
        call.hub.check_quota(added)
    if header.get("parentCommit") and not repo.resolve(ref).startswith(header["parentCommit"]):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    extra = {}
    if pull:
        item = repo.discuss(header["summary"], user, header.get("description") or "", pull_request=True)
        item["status"], ref = "open", f"refs/pr/{item['num']}"
        extra["pullRequestUrl"] = f"{call.hub.endpoint}/{repo.path}/discussions/{item['num']}"
    new = repo.commit(change, header["summary"], header.get("description") or "", user, ref)
    if (number := re.fullmatch(r"refs/pr/(\d+)", ref)) and int(number[1]) <= len(repo.discussions):
        item = repo.discussions[int(number[1]) - 1]
        repo.say(item, "commit", user, {"subject": new.title, "oid": new.sha})
    url = f"{call.hub.endpoint}/{repo.path}/commit/{new.sha}"
    return answer({"success": True, "commitOid": new.sha, "commitUrl": url, "hookOutput": "", **extra})


def changes(call: Call, repo: Repo, lines: list[dict], tree: dict[str, File]) -> dict[str, bytes | File | None]:
    """The files that the lines of a commit put (or None for those they take away).

    Raises:
        HubError: 400 for an invalid card or a large file that never came, 404 for a file that is not there.
    """
    change: dict[str, bytes | File | None] = {}
    for line in lines:
        kind, value = line["key"], line["value"]
        path = value.get("path", "")
        if kind == "file":
            change[path] = base64.b64decode(value["content"])
        elif kind == "lfsFile":
            data = repo.storage.blobs.get(value["oid"])
            if data is None or len(data) != value.get("size", len(data)):
                words = "Your push was rejected because an LFS pointer pointed to a file that does not exist"
                raise HubError(400, words)
            change[path] = repo.storage.large(value["oid"])
        elif kind == "deletedFile":
            if path not in tree:
                raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
            change[path] = None
        elif kind == "deletedFolder":
            inside = [p for p in tree if p.startswith(path.rstrip("/") + "/")]
            if not inside:
                raise HubError(404, "A folder with this name doesn't exist", "EntryNotFound")
            change |= dict.fromkeys(inside)
    card = change.get("README.md")
    if isinstance(card, bytes):
        errors, _ = cards.validate(card.decode(errors="replace"), repo.kind)
        if errors:
            body = {"error": "Invalid metadata in README.md", "errors": [{"message": m} for m in errors]}
            raise HubError(400, "Invalid metadata in README.md", body=body)
    return change


# Large files by LFS


@route("POST", rf"{FILES}\.git/info/lfs/objects/batch", "lfs")
def lfs_batch(call: Call) -> Answer:
    repo, found = call.repo(write=True), []
    for item in call.json["objects"]:
        oid, size = item["oid"], item["size"]
        one: dict[str, Any] = {"oid": oid, "size": size}
        if oid not in repo.storage.blobs:
            try:
                call.hub.check_quota(size)
            except HubError as error:
                found.append(one | {"error": {"code": 413, "message": error.message}})
                continue
            origin = call.hub.blob_origin
            upload: dict[str, Any] = {"href": f"{origin}/_upload/{oid}", "header": {}}
            if size > PART:
                parts = range(1, -(-size // PART) + 1)
                upload["href"] = f"{call.hub.endpoint}/api/complete_multipart?oid={oid}"
                upload["header"] = {"chunk_size": str(PART)}
                upload["header"] |= {str(i): f"{origin}/_upload/{oid}?part={i}" for i in parts}
            verify = {"href": f"{call.hub.endpoint}/{repo.path}.git/info/lfs/objects/verify"}
            one["actions"] = {"upload": upload, "verify": verify}
        found.append(one)
    return answer({"transfer": "basic", "objects": found})


@route("PUT", r"/_upload/(?P<oid>[0-9a-f]{64})", "blob")
def lfs_put(call: Call) -> Answer:
    part = call.query.get("part", [None])[-1]
    tag = hashlib.md5(call.body).hexdigest()
    if part is None:
        store_large(call, call.args["oid"], call.body)
    else:
        call.hub.parts.setdefault(call.args["oid"], {})[int(part)] = call.body
    return Answer(200, b"", {"ETag": f'"{tag}"'})


def store_large(call: Call, oid: str, data: bytes) -> None:
    if hashlib.sha256(data).hexdigest() != oid:
        raise HubError(400, "The bytes are not those of the oid")
    call.hub.storage.blobs[oid] = data


@route("POST", r"/api/complete_multipart", "blob")
def lfs_complete(call: Call) -> Answer:
    oid = call.query["oid"][-1]
    parts = call.hub.parts.pop(oid, {})
    store_large(call, oid, b"".join(parts[i] for i in sorted(parts)))
    return answer({"success": True})


@route("POST", rf"{FILES}\.git/info/lfs/objects/verify", "verify")
def lfs_verify(call: Call) -> Answer:
    call.repo(write=True)
    data = call.hub.storage.blobs.get(call.json["oid"])
    if data is None or len(data) != call.json["size"]:
        raise HubError(404, "The object was not uploaded")
    return answer({})


@route("GET", r"/_blobs/(?P<oid>[0-9a-f]{64})", "download")
def blob(call: Call) -> Answer:
    if call.args["oid"] not in call.hub.storage.blobs:
        raise HubError(404, "no such object")
    return ranged(
        call, call.hub.storage.read(call.args["oid"]), {"ETag": f'"{call.args["oid"]}"', "Accept-Ranges": "bytes"}
    )


# Large files by xet


@route("GET", rf"{REPO}/xet-(?P<scope>read|write)-token/(?P<rev>[^/]+)", "xet-token")
def xet_token(call: Call) -> Answer:
    scope = call.args["scope"]
    repo = call.repo(write=scope == "write" and not call.flag("create_pr"))
    if scope == "read":
        call.hub.may_read_files(call, repo)
    else:
        call.hub.need_user(call)
    token, end = f"xet_{scope}_{secrets.token_hex(8)}", int(time.time()) + call.hub.xet_seconds
    call.hub.xet_tokens[token] = end
    url = f"{call.hub.blob_origin}/_cas"
    body = {"accessToken": token, "exp": end, "casUrl": url}
    head = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(end)}
    return answer(body, head=head)


def need_xet(call: Call, write: bool = False) -> None:
    token = (call.headers.get("Authorization") or "").removeprefix("Bearer ")
    if call.hub.xet_tokens.get(token, 0) < time.time() or (write and not token.startswith("xet_write_")):
        raise HubError(401, "Invalid or expired xet token")


@route("POST", r"/_cas/v1/xorbs/default/(?P<hash>[0-9a-f]{64})", "xorb")
def put_xorb(call: Call) -> Answer:
    need_xet(call, write=True)
    call.hub.check_quota(len(call.body))
    return answer({"was_inserted": call.hub.cas.put_xorb(call.args["hash"], call.body)})


@route("POST", r"/_cas/v1/shards", "shard")
def put_shard(call: Call) -> Answer:
    need_xet(call, write=True)
    call.hub.cas.put_shard(call.body)
    return answer({"result": 1})


@route("GET", r"/_cas/v1/reconstructions/(?P<hash>[0-9a-f]{64})", "reconstruction")
def reconstruction(call: Call) -> Answer:
    need_xet(call)
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", call.headers.get("Range") or "")
    span = (int(asked[1]), int(asked[2]) if asked[2] else None) if asked else (0, None)
    return answer(call.hub.cas.reconstruction(call.args["hash"], call.hub.blob_origin, span))


@route("GET", r"/_cas/xorb/(?P<hash>[0-9a-f]{64})", "download")
def get_xorb(call: Call) -> Answer:
    return ranged(call, call.hub.cas.xorb(call.args["hash"])[0], {})
