"""One commit to a repo, made safe: looked at before, sent once, never over what somebody else wrote, checked after."""

import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, validate_repo_id
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from hf_fashion import cards
from hf_fashion.cards.rules import RepoType
from hf_fashion.errors import InputError
from hf_fashion.hub import clean, client, history, ready
from hf_fashion.hub.client import HubError, api, ask
from hf_fashion.hub.target import Target, info, tree

KINDS = ("model", "dataset", "space")
_SHOWN = 12  # files of one folder that are listed one by one


@dataclass(frozen=True)
class Pushed:
    """What came of a push.

    Args:
        address: Of the repo's page.
        commit: Its id, to load exactly this: `revision=`.
        sent: Paths that the commit brought; empty when all was there already.
    """

    address: str
    commit: str
    sent: tuple[str, ...]


def preflight(
    repo: str, kind: str = "model", *, public: bool = False, token: str | None = None, card: str | None = None
) -> Target:
    """Asks, before anything is computed or sent, whether a push can go well.

    Args:
        repo: <name> of a repo of the token's owner, or <namespace>/<name>.
        kind: model, dataset or space.
        public: What is pushed may be seen by everybody.
        token: Of the Hub; the stored one (HF_TOKEN, `hf auth login`) when None.
        card: README.md as it will be, whose metadata the Hub is asked about.

    Returns:
        The repo with its namespace.

    Raises:
        HubError: No token, one that may not write there, a card that would be refused.
        InputError: A name that cannot be; a card that breaks a documented rule; a public repo where `public` was not
            said, or a private one where it was.
    """
    what = f"push to {repo}"
    if kind not in KINDS:
        raise InputError(what, expected=", ".join(KINDS), found=kind, fix=f"--type {KINDS[0]}")
    if card is not None:
        # What can be told without the Hub, and with line and key.
        for warning in cards.validate(card, cast(RepoType, kind)):
            print(warning)
    ready.refuse_secret(repo)
    hub = api(token)
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        told = client.translate(what, error)
        raise InputError(what, expected=told.expected, found=told.found, fix=told.fix) from error
    who = ask(what, hub.whoami)
    repo = repo if "/" in repo else f"{who['name']}/{repo}"
    _refuse_namespace(what, repo, who)
    known = info(what, hub, repo, kind)
    if known is None:
        _refuse_no_creation(what, repo, who)
        _tell_namesakes(hub, repo, kind)
    else:
        ask(what, lambda: hub.auth_check(repo, repo_type=kind, write=True))
        _refuse_visibility(what, repo, kind, bool(known.private), public)
    if card is not None:
        validate(card, kind, token)
    return Target(repo, kind, not public, known is not None, who["name"], token)


def validate(card: str, kind: str, token: str | None = None) -> None:
    """Asks the Hub about a card's metadata, since it refuses a whole commit for a wrong one.

    Raises:
        HubError: With what is wrong.
    """

    def call() -> Any:
        response = get_session().post(
            f"{client.endpoint()}/api/validate-yaml", json={"content": card, "repoType": kind},
            headers=build_hf_headers(token=token, library_name="hf_fashion"),
        )  # fmt: skip
        if response.status_code != 400:
            hf_raise_for_status(response)
        return response.json()

    answer = ask("README.md", call)
    errors = [str(error.get("message")) for error in answer.get("errors") or ()]
    if errors:
        raise HubError(
            "README.md: its metadata", expected="what the Hub takes: it refuses the whole push for this",
            found="; ".join(errors), fix="mend the lines between the two `---`",
        )  # fmt: skip
    for warning in answer.get("warnings") or ():
        print(f"the Hub about README.md: {warning.get('message')}")


def push(
    folder: str | Path, repo: str, *, public: bool = False, overwrite: bool = False, card_photos: bool = False,
    token: str | None = None,
) -> Pushed:  # fmt: skip
    """Pushes the model of a run, or of any folder that `save_pretrained` wrote and that has a card.

    Args:
        folder: Is read only. What leaves of it: `clean.MODEL`.
        repo: <name> or <namespace>/<name>; made when it is not there.
        public: Whether everybody may see it.
        overwrite: Write over what others changed in the repo.
        card_photos: Send the photos of a run's card also where nobody said the licence of the photos, or where the
            run was told `--no_card_photos`.
        token: Of the Hub; the stored one when None.

    Raises:
        InputError: A folder that is not ready, or holds secrets.
        HubError: What the Hub refused; its last line is the command that goes on.
    """
    root = Path(folder)
    ready.refuse_unready(root)
    why = None if card_photos else ready.photos_stay(root)
    withheld = dict.fromkeys(cards.PHOTOS, why) if why else {}
    edits: dict[str, Callable[[str], str]] = (
        {"README.md": cards.without_photos, "run.json": cards.record_without_photos} if why else {}
    )
    made = clean.export(root, clean.MODEL, edits=edits, withheld=withheld)
    ready.refuse_incomplete(root, made.files)
    ready.refuse_shards_missing(root, made)
    ready.refuse_secret(root.resolve().name)
    resume = resumption(root, repo, public=public, overwrite=overwrite, card_photos=card_photos)
    with_resume = _told_how(resume)
    target = with_resume(lambda: preflight(repo, "model", public=public, token=token, card=made.text("README.md")))

    def on_hub(text: str) -> str:
        """The card whose code loads the model by its id, which is known by now."""
        text = cards.addressed(text, root, target.repo)
        return cards.without_photos(text) if why else text

    made = clean.export(root, clean.MODEL, edits=edits | {"README.md": on_hub}, withheld=withheld)
    return with_resume(lambda: send(made, target, name=root.resolve().name, overwrite=overwrite))


def resumption(folder: str | Path, repo: str, **options: Any) -> str:
    """The command that pushes a folder, again if need be: what was sent is not sent twice."""
    typed = [
        word
        for name, value in options.items()
        if value
        for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]
    return shlex.join(["hf-fashion", "push", str(folder), repo, *typed])


def _told_how(resume: str) -> Callable[[Callable[[], Any]], Any]:
    def call(function: Callable[[], Any]) -> Any:
        try:
            return function()
        except HubError as error:
            if not client.may_go_on(error):
                raise
            raise HubError(
                error.what, expected=error.expected, found=error.found, passing=error.passing, status=error.status,
                fix=f"{error.fix}; then: {resume}",
            ) from error  # fmt: skip

    return call


def send(
    made: clean.Export, target: Target, *, name: str, overwrite: bool = False, sdk: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> Pushed:  # fmt: skip
    """Shows what goes where, sends it in one commit, and compares what arrived.

    Args:
        made: What leaves.
        target: From `preflight`.
        name: What is pushed, for the commit's title.
        overwrite: Write over what others changed.
        sdk: Of a Space that is not there yet.
        variables: Of a Space.

    Raises:
        HubError: What the Hub refused, after some tries; or what arrived differs.
        InputError: Somebody else changed a file that would be written, and `overwrite` is not set.
    """
    name = " ".join(name.split())[:60].strip()
    ready.refuse_secret(name)
    print(shown(made, target))
    what, hub = f"push to {target.repo}", api(target.token)
    if not target.exists:
        ask(
            what,
            lambda: hub.create_repo(
                target.repo, repo_type=target.kind, private=target.private, exist_ok=True, space_sdk=sdk
            ),
        )
    commit, sent = _commit(what, hub, made, target, name, overwrite)
    _verify(what, hub, made, target, commit)
    # Last, so that a push that is refused changes nothing of a Space that runs.
    _set_variables(what, hub, target, variables or {})
    done = f"{len(sent)} file{'s' * (len(sent) > 1)} sent" if sent else "all of it was there already"
    print(f"{done}, checksums equal: {target.address} at commit {commit[:12]}")
    return Pushed(target.address, commit, tuple(sent))


def _commit(
    what: str, hub: HfApi, made: clean.Export, target: Target, name: str, overwrite: bool
) -> tuple[str, list[str]]:
    """One commit, however often the Hub stumbles: before each try it is read anew what is there, and who sees it."""
    wait = client.FIRST_WAIT
    for attempt in range(1, client.TRIES + 1):
        now = ask(what, lambda: hub.repo_info(target.repo, repo_type=target.kind))
        _refuse_visibility(what, target.repo, target.kind, bool(now.private), not target.private)
        head = str(now.sha)
        there = tree(what, hub, target, head)
        sent = [path for path, content in made.files.items() if not same(there.get(path), content)]
        left = there.keys() - made.files.keys() - {".gitattributes"}
        if not sent and not left:
            return head, [] if attempt == 1 else sorted(made.files)
        past = history.past(what, hub, target, head, there)
        # Of an earlier push of the same person: it would be loaded beside the new.
        stale = sorted(path for path in left if path in past.pushed)
        if not sent and not stale:
            return head, [] if attempt == 1 else sorted(made.files)
        if not overwrite:
            history.refuse_foreign(what, target, past, there, [*sent, *stale])
        others = sorted({past.pushed[path] for path in (*sent, *stale) if path in past.pushed} - {name})
        if others:
            print(f"in the place of your push of {', '.join(others)}, which stays in the repo's history")
        for path in stale:
            print(f"taken out there, as it is of an earlier push: {path}")
        operations: list[Any] = [CommitOperationAdd(path, made.files[path]) for path in sent]
        operations += [CommitOperationDelete(path) for path in stale]
        try:
            title = history.title(name, digest(made))
            with client.impatient():
                done = hub.create_commit(
                    target.repo, operations, commit_message=title, repo_type=target.kind, parent_commit=head
                )
            return done.oid, sent
        except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
            told = client.translate(what, error)
            stumbled = told.passing or told.status == 412
            pause = client.asked_to_wait(error)
            if not stumbled or attempt == client.TRIES or (pause or 0) > client.LONGEST_WAIT:
                raise told from error
            print(f"{told.found}; looked at again, {attempt} of {client.TRIES - 1}")
            time.sleep(0 if told.status == 412 else wait if pause is None else pause)
            wait *= 2
    raise AssertionError("unreachable")


def same(there: RepoFile | None, content: bytes | Path) -> bool:
    """Whether the Hub has just these bytes, by the checksum that it keeps of the file."""
    if there is None:
        return False
    if there.size != (len(content) if isinstance(content, bytes) else content.stat().st_size):
        return False
    if there.lfs is None:
        return there.blob_id == git_hash(content if isinstance(content, bytes) else content.read_bytes())
    return there.lfs.sha256 == _sha256(content)


def digest(made: clean.Export) -> str:
    """Names what is pushed, in 12 letters."""
    every = sha256()
    for path in sorted(made.files):
        every.update(f"{path} {_sha256(made.files[path])}\n".encode())
    return every.hexdigest()[:12]


def _sha256(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return sha256(content).hexdigest()
    with content.open("rb") as file:
        return sha_fileobj(file).hex()


def shown(made: clean.Export, target: Target) -> str:
    """Where to, who will see it, and each file with its size; then what stays at home, and what was changed."""
    seen = "private" if target.private else "PUBLIC"
    sizes = {path: made.size(path) for path in sorted(made.files)}
    rows = _rows(sizes)
    width = max(map(len, rows), default=0)
    lines = [
        f"to {target.address} ({target.kind}, {seen}, {'there already' if target.exists else 'new'}), as {target.user}"
    ]
    lines += [f"  {path:<{width}}  {_size(size):>9}" for path, size in rows.items()]
    lines += [f"  {len(sizes)} files together, {_size(sum(sizes.values()))}"]
    lines += [f"left out: {path} ({why})" for path, why in sorted(made.left_out.items())]
    lines += [f"changed:  {path} ({why})" for path, why in sorted(clean.by_folder(made.changed).items())]
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def _rows(sizes: Mapping[str, int]) -> dict[str, int]:
    """Path -> bytes; a folder of many files is one row."""
    counts = Counter(path.split("/")[0] for path in sizes if "/" in path)
    rows: dict[str, int] = {}
    for path, size in sizes.items():
        top = path.split("/")[0]
        row = f"{top}/ ({counts[top]} files)" if counts[top] > _SHOWN else path
        rows[row] = rows.get(row, 0) + size
    return rows


def _size(count: int) -> str:
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"


def _set_variables(what: str, hub: HfApi, target: Target, variables: Mapping[str, str]) -> None:
    """Sets what is not set so already, since each setting starts the Space anew."""
    if not variables:
        return
    known = ask(what, lambda: hub.get_space_variables(target.repo))
    for key, value in variables.items():
        if key not in known or known[key].value != value:
            ask(what, lambda key=key, value=value: hub.add_space_variable(target.repo, key, value))  # type: ignore[misc]


def _refuse_namespace(what: str, repo: str, who: Mapping[str, Any]) -> None:
    """Raises HubError where the token's role, or its owner's in the organization, does not let it write.

    InputError where it is the repo's name that has to be another, for which the same command does not go on.
    """
    namespace = repo.split("/")[0]
    orgs = {org["name"]: org.get("roleInOrg") for org in who.get("orgs") or ()}
    if namespace != who["name"] and namespace not in orgs:
        raise InputError(
            what, expected=f"a namespace that you may write to: {', '.join([who['name'], *orgs])}", found=namespace,
            fix=f"{who['name']}/{repo.split('/')[1]}",
        )  # fmt: skip
    if orgs.get(namespace) in ("read", "no_access"):
        raise HubError(
            what, expected=f"a role in {namespace} that may write", found=str(orgs[namespace]),
            fix=f"ask an admin of {namespace}; or push to {who['name']}/{repo.split('/')[1]}",
        )  # fmt: skip
    role = ((who.get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise HubError(
            what, expected="a token that may write", found="one with the role `read`",
            fix=f"a token with the role `write` from {client.TOKENS}, then `hf auth login`",
        )  # fmt: skip


def _refuse_no_creation(what: str, repo: str, who: Mapping[str, Any]) -> None:
    """Raises HubError where a fine-grained token has no right to make a repo in the namespace."""
    token = (who.get("auth") or {}).get("accessToken") or {}
    if token.get("role") != "fineGrained":
        return
    scoped = (token.get("fineGrained") or {}).get("scoped") or ()
    wanted = {repo, repo.split("/")[0]}
    if not any(
        scope.get("entity", {}).get("name") in wanted
        and any("write" in right for right in scope.get("permissions", ()))
        for scope in scoped
    ):
        raise HubError(
            what, expected=f"a token that may write to {repo.split('/')[0]}",
            found="a fine-grained one without that right",
            fix=f"add `Write access to contents of all repos` of {repo.split('/')[0]} to it on {client.TOKENS}",
        )  # fmt: skip


def _refuse_visibility(what: str, repo: str, kind: str, private: bool, public: bool) -> None:
    if public and private:
        typed = f"hf repos settings {repo} --public" + (f" --repo-type {kind}" if kind != "model" else "")
        raise InputError(
            what, expected="a public repo", found="a private one, which a push does not change",
            fix=f"leave --public out; or make the repo public: `{typed}`, or Settings on its page",
        )  # fmt: skip
    if not public and not private:
        raise InputError(
            what, expected="a private repo, as --public was not said", found="a public one, that everybody sees",
            fix="--public, as in every push to a public repo, if everybody may see it; or another name",
        )  # fmt: skip


def _tell_namesakes(hub: HfApi, repo: str, kind: str) -> None:
    for other in KINDS:
        if other != kind and info(repo, hub, repo, other) is not None:
            print(f"{repo} is a {other} already; a {kind} of the same name is made beside it")


def _verify(what: str, hub: HfApi, made: clean.Export, target: Target, commit: str) -> None:
    """Raises HubError unless the commit holds each file with the checksum that it has here."""
    there = tree(what, hub, target, commit)
    wrong = [path for path, content in made.files.items() if not same(there.get(path), content)]
    if wrong:
        raise HubError(
            what, expected="what was sent",
            found=f"other bytes, or none, of {', '.join(wrong[:5])} at commit {commit[:12]}",
            fix="push again", passing=True,
        )  # fmt: skip
