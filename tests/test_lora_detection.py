"""LoRA for detectors: the right parts learn, heads that share weights go on to, and what is saved is a plain net."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from test_many_processes import TORCHRUN, start
from tiny import slow_but, without_drawing
from tiny_detectors import KINDS, NAMES, boxed_folder, tiny_detector
from transformers import AutoModelForObjectDetection, pipeline, set_seed

from hf_fashion import backbones, data, record, training
from hf_fashion.errors import InputError
from hf_fashion.recipes import detect as recipe
from hf_fashion.tasks import detect

pytest.importorskip("peft")
OTHERS = ["person", "car", "cup", "dog"]  # what the checkpoints know
TIED = ("rt_detr_v2", "d_fine")
FAST = ("rt_detr_v2", "detr")  # heads that share weights, and plain ones; the others learn when there is time
# What gets small matrices: attention layers times projections, perceptrons, and what else is linear.
COUNTS = {
    "rt_detr_v2": 3 * 4 + 2 * 4 + 3 * 2 + 1 + 2,  # self-, sampling attention, perceptrons, enc_output, query_pos_head
    "d_fine": 3 * 4 + 2 * 2 + 3 * 2 + 1 + 2 + 2 + 2 * 2,  # ... the gateways and the qualities of boxes
    "detr": 3 * 4 + 2 * 4 + 3 * 2,
    # The first layer alone has a projection of the query's place in its cross-attention; the heads of places.
    "conditional_detr": 4 + 2 * 6 + 7 + 6 + 3 * 2 + 2 + 2,
    "yolos": 2 * 4 + 2 * 2,
    "rf_detr": (2 * 4 + 2 * 2) + 2 * (4 + 4 + 2) + 2 + 2,  # the DINOv2, the decoder, ref_point_head, enc_output
}
HEADS = {
    "rt_detr_v2": {"class_embed", "decoder.class_embed", "enc_score_head", "denoising_class_embed", "bbox_embed",
                   "decoder.bbox_embed", "enc_bbox_head"},
    "detr": {"class_labels_classifier", "bbox_predictor"},
    "rf_detr": {"class_embed", "enc_out_class_embed", "bbox_embed", "enc_out_bbox_embed"},
}  # fmt: skip
HEADS |= {"d_fine": HEADS["rt_detr_v2"] | {"decoder.pre_bbox_head"}} | dict.fromkeys(
    ("conditional_detr", "yolos"), HEADS["detr"]
)
# The queries of DETR come with their places alone: what the first layer says of their content is nothing.
BLIND = dict.fromkeys(
    ("detr", "conditional_detr"), ("decoder.layers.0.self_attn", "decoder.layers.0.encoder_attn.q_content_proj")
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("lora")
    boxed_folder(place / "photos", train=8, validation=4, test=4)
    for kind in KINDS:
        tiny_detector(kind, place / kind, OTHERS)
    return place


def make(place, kind, folder, *, dropout=0.0, metric=None, average=None, **changes):
    dataset = data.load(str(place / "photos"), detect.COLUMNS)[0]
    set_seed(1)
    model, processor = backbones.load_detector(place / kind, NAMES)
    given = {
        "output_dir": str(folder), "num_train_epochs": 2, "per_device_train_batch_size": 4, "learning_rate": 0.01,
        "weight_decay": 0.0, "max_grad_norm": 10.0, "save_total_limit": None, "use_cpu": True, "disable_tqdm": True,
    }  # fmt: skip
    model = training.add_lora(model, rank=4, alpha=8, dropout=dropout)
    return training.DetectionTrainer(
        model=model,
        args=training.DetectionTrainingArguments(**given | changes),
        processing_class=processor,
        train_dataset=detect.prepare(dataset["train"], processor, train=True, seed=1),
        eval_dataset=detect.prepare(dataset["validation"], processor),
        compute_metrics=metric or detect.metrics(dataset["validation"], NAMES),
        data_collator=detect.collate(model),
        callbacks=[training.MovingAverage(average)] if average else [],
    )


def learns(name):
    return "lora_" in name or "modules_to_save" in name


@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_and_heads_that_should_get_matrices_and_copies(kind, place):
    wrapped = training.add_lora(backbones.load_detector(place / kind, NAMES)[0], rank=4, alpha=8)
    layers = {name.split(".lora_A")[0] for name, _ in wrapped.named_modules() if name.endswith("lora_A")}
    assert len(layers) == COUNTS[kind], layers
    heads = [name for name, _ in wrapped.get_base_model().named_modules() if name.endswith(".modules_to_save")]
    assert {name.split(".modules_to_save")[0].removeprefix("model.").rstrip(".0123456789") for name in heads} == (
        HEADS[kind]
    )
    assert all(learns(name) for name, value in wrapped.named_parameters() if value.requires_grad)


@pytest.mark.parametrize("kind", slow_but(KINDS, *FAST))
def test_the_matrices_and_the_heads_learn_and_the_merged_net_is_plain(kind, place, tmp_path):
    trainer = make(place, kind, tmp_path, eval_strategy="no", save_strategy="no", load_best_model_at_end=False)
    wrapped = trainer.model
    set_seed(1)
    original, _ = backbones.load_detector(place / kind, NAMES)
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(wrapped.eval()(pixel_values=pixels).logits, original(pixels).logits, atol=1e-5)

    start = {name: value.clone() for name, value in wrapped.state_dict().items()}
    trainer.train()
    moved = {name for name, value in wrapped.state_dict().items() if not torch.equal(value, start[name])}
    assert all(learns(name) for name in moved)  # batch statistics do not, either
    still = {name for name in start if learns(name)} - moved
    # The first matrix of a layer has a gradient once the second is not zero any more.
    assert all("lora_A" in name or any(part in name for part in BLIND.get(kind, ())) for name in still), still

    before = trainer.predict(trainer.eval_dataset).predictions
    with torch.no_grad():
        truth = wrapped.eval()(pixel_values=pixels)
    net = trainer.model = training.merge(wrapped)
    assert type(net) is type(original) and not net.training
    assert net.state_dict().keys() == original.state_dict().keys()
    assert [name for name, value in net.named_parameters()] == [name for name, value in original.named_parameters()]
    assert not torch.allclose(truth.logits, original(pixels).logits, atol=1e-3)
    net.save_pretrained(tmp_path / "merged")
    assert not list((tmp_path / "merged").glob("adapter*"))
    plain, info = AutoModelForObjectDetection.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(info.values())
    with torch.no_grad():
        for one in (net, plain.eval()):
            made = one(pixels)
            assert torch.allclose(made.logits, truth.logits, atol=1e-5)
            assert torch.allclose(made.pred_boxes, truth.pred_boxes, atol=1e-5)
    after = trainer.predict(trainer.eval_dataset).predictions  # what is measured is what was merged
    assert np.allclose(before[..., 4], after[..., 4], atol=1e-5)


@pytest.mark.parametrize("kind", slow_but(TIED, *FAST))
def test_heads_that_share_weights_share_them_while_they_learn_and_after(kind, place, tmp_path):
    """peft alone would give each its own, of which a saved net keeps one."""
    trainer = make(place, kind, tmp_path, eval_strategy="no", save_strategy="no", load_best_model_at_end=False)
    trainer.train()
    for net in (trainer.model.get_base_model(), training.merge(trainer.model)):
        for name in ("class_embed", "bbox_embed"):
            pairs = zip(getattr(net, name).parameters(), getattr(net.model.decoder, name).parameters(), strict=True)
            shared = [one is two for one, two in pairs]
            assert shared and all(shared), name
    assert net.config.tie_word_embeddings


def test_what_peft_does_not_do_for_detectors_of_its_own():
    """When a newer peft makes these pass, what add_lora does instead can go."""
    from peft import LoraConfig, get_peft_model
    from tiny_detectors import tiny_net

    with pytest.raises(NotImplementedError, match="get_input_embeddings"):
        get_peft_model(tiny_net("rt_detr_v2"), LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(TypeError, match="ModuleList"):
        get_peft_model(tiny_net("rf_detr"), LoraConfig(target_modules=["q_proj"], modules_to_save=["class_embed"]))


@pytest.mark.parametrize("kind", slow_but(("rt_detr_v2", "detr", "rf_detr"), "rt_detr_v2", "rf_detr"))
def test_a_detector_trains_as_detectors_do_but_for_its_backbone_and_batch_norms(kind, place, tmp_path):
    """Denoising queries and groups of queries are there in training mode alone."""
    trainer = make(place, kind, tmp_path)
    model = trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    batch.pop("keys", None)
    outputs = model(**batch)
    net = model.get_base_model()
    backbone = net.model.backbone
    assert not any(module.training for module in backbone.modules() if module is not backbone) or kind == "rf_detr"
    assert not any(module.training for module in net.modules() if hasattr(module, "running_mean"))
    assert net.training and all(module.training for name, module in net.named_modules() if name.endswith("self_attn"))
    if kind == "rt_detr_v2":
        assert outputs.denoising_meta_values is not None
    if kind == "rf_detr":
        assert outputs.logits.shape[1] == net.config.num_queries * net.config.group_detr
        assert not any(module.training for module in net.model.backbone.backbone.encoder.layer[0].mlp.children()
                       if not hasattr(module, "lora_A"))  # fmt: skip


@pytest.mark.parametrize("kind", slow_but(("d_fine", "detr", "conditional_detr"), *FAST))
def test_a_resumed_run_is_the_unbroken_one_and_the_best_model_comes_back(kind, place, tmp_path):
    """With dropout and a moving average, so that the random state and the raw weights come back, too."""
    more = {"dropout": 0.2, "average": 0.9}
    whole = make(place, kind, tmp_path / "whole", **more, load_best_model_at_end=False)
    whole.train()
    resumed = make(place, kind, tmp_path / "resumed", **more, load_best_model_at_end=False)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    falls = iter(range(100, 0, -1))
    best = make(place, kind, tmp_path / "best", **more, save_total_limit=1, metric=lambda _: {"map": next(falls)})
    best.train()
    assert best.state.best_model_checkpoint.endswith("checkpoint-2")
    first = make(place, kind, tmp_path / "first", dropout=0.2)
    first.model.load_adapter(str(tmp_path / "whole" / "checkpoint-2"), "default")
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, best.model.state_dict()[name]), name


def run_of(place, kind, folder, *more):
    return [
        "--model", str(place / kind), "--dataset", str(place / "photos"), "--num_train_epochs", "2",
        "--per_device_train_batch_size", "4", "--learning_rate", "0.01", "--use_cpu", "True", "--disable_tqdm", "True",
        "--lora_rank", "4", "--output_dir", str(folder), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(place):
    """The folder that the recipe leaves."""
    with without_drawing():
        recipe.main(run_of(place, "detr", place / "run", "--moving_average", "0.5"))
    return place / "run"


def assert_scores_of_the_run(run, told):
    rows = record.of_split(record.read(run).predictions, "test")
    assert len(told) == len(rows) == 4
    for theirs, ours in zip(told, rows["detections"], strict=True):
        assert np.allclose(sorted((one["score"] for one in theirs), reverse=True), ours["score"], atol=1e-4)


def test_the_recipe_leaves_a_plain_detector_that_the_bare_pipeline_loads(place, run):
    assert sorted(path.name for path in run.glob("*.safetensors")) == ["model.safetensors"]
    assert not [path for path in run.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    before, after = (load_file(path / "model.safetensors") for path in (place / "detr", run))
    assert before.keys() == after.keys()
    moved = {key for key in before if before[key].shape != after[key].shape or not before[key].equal(after[key])}
    assert all(any(part in key for key in moved) for part in ("q_proj", "fc1", "class_labels", "bbox_predictor"))
    assert not any("backbone" in key or "norm" in key or "position" in key for key in moved)
    bare = pipeline("object-detection", model=str(run))
    photos = Dataset.from_parquet(str(place / "photos" / "test.parquet"))["image"]
    assert_scores_of_the_run(run, [bare(photo, threshold=0.0) for photo in photos])


@pytest.mark.slow  # a fresh process
def test_a_process_without_us_and_peft_loads_it(place, run):
    code = """
import json, sys
sys.modules["hf_fashion"] = sys.modules["peft"] = None
from datasets import Dataset
from transformers import pipeline
photos, folder = sys.argv[1:]
detect = pipeline("object-detection", model=folder)
print(json.dumps([detect(row["image"], threshold=0.0) for row in Dataset.from_parquet(photos)]))
"""
    command = [sys.executable, "-c", code, str(place / "photos" / "test.parquet"), str(run)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    assert_scores_of_the_run(run, told)


def test_photos_of_several_shapes_are_masked_with_lora_as_without(place):
    model, _ = backbones.load_detector(place / "detr", NAMES)
    assert detect.collate(model).masked and detect.collate(training.add_lora(model, 4, 8)).masked


@pytest.mark.slow  # two processes start
def test_two_processes_learn_what_one_does(place):
    """No parameter that learns is without a gradient, or they would wait for it.

    RF-DETR's loss is divided by the boxes of all processes; RT-DETR's (transformers 5.24) by those of its own. SGD:
    Adam makes whole steps of rounding errors.
    """
    config = tiny_detector("rf_detr", place / "still", OTHERS) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dropout": 0.0}))
    more = ["--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "False", "--optim", "sgd",
            "--learning_rate", "0.02", "--max_grad_norm", "10"]  # fmt: skip
    done = start(TORCHRUN, "detect", *run_of(place, "still", "two", *more, "--per_device_train_batch_size", "2"),
                 cwd=place)  # fmt: skip
    assert done.returncode == 0, done.stderr
    recipe.main(run_of(place, "still", place / "one", *more))
    before, one, two = (load_file(place / name / "model.safetensors") for name in ("still", "one", "two"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    assert float((one["bbox_embed.layers.2.bias"] - before["bbox_embed.layers.2.bias"]).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--model", "rt_detr_v2", "--backbone", "efficientnet-lite0"], "(?s)lora_rank.*random.*without --backbone"),
        (["--freeze", "backbone"], "(?s)lora_rank.*--freeze none"),
        (["--head_learning_rate", "0.1"], "one of the two"),
        (["--lora_rank", "0"], "lora_rank"),
        (["--lora_alpha", "0"], "lora_alpha"),
    ],
)
def test_settings_that_cannot_be_are_refused(place, tmp_path, more, told):
    with pytest.raises(InputError, match=told):
        recipe.main(run_of(place, "detr", tmp_path / "run", *more))
    assert not [*tmp_path.rglob("*.*")]


def test_the_default_model_is_a_new_one_and_refused(tmp_path):
    with pytest.raises(InputError, match="a new detector over --backbone"):
        recipe.main(["--lora_rank", "4", "--output_dir", str(tmp_path / "run")])
