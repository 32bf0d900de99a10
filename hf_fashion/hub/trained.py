"""`--push_to_hub` of a recipe: asked about before the training, done after it, and never by the Trainer itself."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from hf_fashion import record
from hf_fashion.hub import client, history
from hf_fashion.hub.pushing import preflight, push
from hf_fashion.hub.target import Target, info, tree

# What every run brings, and would write over at its end.
_BROUGHT = ("README.md", "config.json", "model.safetensors", "run.json", "eval_results.json")
# Settings of `transformers.TrainingArguments` that steer the Trainer's own push, which is not used.
_TRAINERS_OWN = ("hub_strategy", "hub_always_push", "hub_revision")


def before_training(
    training_args: Any, *, license: str | None, license_name: str | None = None, license_link: str | None = None,
    base_model: str | None = None, dataset: Mapping[str, Any] | None = None, task: str = "image-classification",
    library: str = "transformers",
) -> Target | None:  # fmt: skip
    """Looks, before the first step, whether the push at the end can go well, and takes it from the Trainer.

    The Trainer's own push uploads all of its folder (an optimizer, pickles, one with the token in it) and overwrites
    the card. The repo is `--hub_model_id`, or the folder's name; private unless `--hub_private_repo False`.

    Args:
        training_args: `transformers.TrainingArguments`; their `push_to_hub` becomes False.
        license: Of the model, as it will stand on the card; with `license_name` and `license_link` for "other".
        base_model: Hub id of what is fine-tuned, as it will stand on the card.
        dataset: `Report.to_dict()` of the photos.
        task: The Hub's name of the task.
        library: What loads the model, as it will stand on the card.

    Returns:
        Where to push to; None when that was not asked for, and in all processes but the first.

    Raises:
        HubError: What would stop the push at the end: the token, its rights, the repo's name, the card's metadata.
        InputError: The repo holds what somebody else wrote.
    """
    if not training_args.push_to_hub:
        return None
    training_args.push_to_hub = False
    if training_args.process_index != 0:
        return None
    for name in _TRAINERS_OWN:
        if getattr(training_args, name) not in (None, False, "every_save"):
            print(f"--{name} is not used: there is one push, at the end")
    repo = training_args.hub_model_id or Path(training_args.output_dir).resolve().name
    source = dataset or {}
    metadata = ModelCardData(
        license=license or "unknown", license_name=license_name, license_link=license_link,
        base_model=base_model, pipeline_tag=task, library_name=library,
        datasets=[source["source"]] if source.get("kind") == "hub" else None,
    )  # fmt: skip
    target = preflight(
        repo, "model", public=training_args.hub_private_repo is False, token=training_args.hub_token,
        card=f"---\n{metadata.to_yaml()}\n---\n",
    )  # fmt: skip
    if target.exists:
        _refuse_foreign(target)
    print(f"when it is trained, it goes to {target.address} ({'private' if target.private else 'PUBLIC'})")
    return target


def after_training(run: record.Run, target: Target | None, then: str) -> None:
    """Ends a recipe: says the figures, where the folder is and what to type next, and pushes where that was asked for.

    Args:
        run: That has its card.
        target: Of `before_training`.
        then: A command that takes the folder, named by {folder} in it.
    """
    folder = shlex.quote(str(run.folder))
    print(f"\n{record.summary(run)}\n\nfolder: {run.folder}")
    print(f"next:   read {folder}/README.md, the card, and look at its plots")
    print(f"        {then.format(folder=folder)}")
    if target is None:
        print(f"        hf-fashion push {folder} {shlex.quote(run.name)}")
    else:
        push(run.folder, target.repo, public=not target.private, token=target.token)


def _refuse_foreign(target: Target) -> None:
    what, hub = f"push to {target.repo}", client.api(target.token)
    now = info(what, hub, target.repo, target.kind)
    there = tree(what, hub, target, now.sha)
    past = history.past(what, hub, target, now.sha, there)
    history.refuse_foreign(
        what, target, past, there, [path for path in _BROUGHT if path in there],
        "or another --hub_model_id; or train without --push_to_hub, then `hf-fashion push ... --overwrite`",
    )  # fmt: skip
