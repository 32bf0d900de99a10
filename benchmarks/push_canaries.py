"""What must not leave with a push, planted in a run's folder: how much of it would have reached the Hub.

    python benchmarks/push_canaries.py

Each canary is planted alone in a folder that is otherwise in order; then the folder is made ready as `hf-fashion
push` does it (`hub.clean.export`), and what would leave is searched for the planted bytes: as they are, in base64, in
UTF-16, and within compressed parts of pictures. Nothing is sent. A push that stops counts as nothing let through.
"""

import base64
import contextlib
import json
import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin
from safetensors.numpy import save_file

from hf_fashion.errors import InputError
from hf_fashion.hub import clean

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567"
HOME = "/home/jane_roe/secret_shop"
MARK = "CANARY-7f3a"  # of what is no secret by its form: it must not be there since its file or place must not
GPS = "47.3769N-8.5417E"
CARD = "---\nlicense: apache-2.0\n---\n\n# A model\n\nText.\n"


def folder(place: Path) -> Path:
    """A folder in order, as a run leaves it."""
    (place / "plots").mkdir(parents=True)
    save_file({"head": np.arange(64, dtype=np.float32)}, place / "model.safetensors")
    (place / "config.json").write_text('{"model_type": "resnet"}\n')
    (place / "preprocessor_config.json").write_text('{"size": 224}\n')
    (place / "README.md").write_text(CARD)
    (place / "run.json").write_text('{"status": "finished", "recipe": "classify"}\n')
    (place / "eval_results.json").write_text('{"accuracy": 0.75}\n')
    Image.new("RGB", (8, 8), "red").save(place / "plots" / "bars.png")
    return place


def text(name: str, content: str) -> Callable[[Path], None]:
    def plant(place: Path) -> None:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content)

    return plant


def entry(name: str, **entries: object) -> Callable[[Path], None]:
    def plant(place: Path) -> None:
        path = place / name
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(before | entries))

    return plant


def raw(name: str, content: bytes = b"\x80\x04" + MARK.encode()) -> Callable[[Path], None]:
    def plant(place: Path) -> None:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)

    return plant


def link(name: str, target: str) -> Callable[[Path], None]:
    def plant(place: Path) -> None:
        outside = place.parent / f"{place.name}_outside"
        outside.mkdir(exist_ok=True)
        (outside / "config.json").write_text(f'{{"{MARK}": 1}}')
        (outside / "photo.png").write_bytes((place / "plots" / "bars.png").read_bytes() + MARK.encode())
        (place / name).unlink(missing_ok=True)
        (place / name).symlink_to(outside / target)

    return plant


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x010E], tags[0x9C9D] = f"{MARK} {GPS}", MARK.encode("utf-16-le")
    tags.get_ifd(0x8825)[0x001D], tags.get_ifd(0x8825)[2] = MARK, (47.0, 22.0, 36.0)
    return tags


def picture(name: str, format: str, **options: object) -> Callable[[Path], None]:
    def plant(place: Path) -> None:
        (place / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), "blue").save(place / name, format, **options)

    return plant


def png_texts() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", f"{MARK} {HOME}")
    info.add_itxt("XML:com.adobe.xmp", f"<x:xmpmeta>{MARK}</x:xmpmeta>", zip=True)
    info.add_text("Comment", MARK, zip=True)
    return info


def after_the_end(name: str, format: str) -> Callable[[Path], None]:
    def plant(place: Path) -> None:
        picture(name, format)(place)
        (place / name).write_bytes((place / name).read_bytes() + b"PK\x03\x04" + MARK.encode())

    return plant


def in_weights(place: Path) -> None:
    save_file({"head": np.arange(4, dtype=np.float32)}, place / "model.safetensors", {"key": TOKEN})


def after_weights(place: Path) -> None:
    with (place / "model.safetensors").open("ab") as file:
        file.write(MARK.encode())


def in_a_name_of_weights(place: Path) -> None:
    save_file({f"x.{TOKEN}": np.arange(4, dtype=np.float32)}, place / "model.safetensors")


def home_in_weights(place: Path) -> None:
    save_file({"head": np.arange(4, dtype=np.float32)}, place / "model.safetensors", {"path": f"{HOME}/x"})


def between_weights(place: Path) -> None:
    one = {"dtype": "U8", "shape": [1]}
    header = json.dumps({"a": one | {"data_offsets": [0, 1]}, "b": one | {"data_offsets": [40, 41]}}).encode()
    hidden = b"\x00" + MARK.encode().ljust(39) + b"\x00"
    (place / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + hidden)


def in_the_colours_of_a_jpeg(place: Path) -> None:
    picture("widget/a.jpg", "JPEG")(place)
    before, part = (place / "widget" / "a.jpg").read_bytes(), b"Adobe\x00d\x00\x00\x00\x00\x01" + MARK.encode()
    segment = b"\xff\xee" + struct.pack(">H", len(part) + 2) + part
    (place / "widget" / "a.jpg").write_bytes(before[:2] + segment + before[2:])


def in_a_frame_of_a_webp(place: Path) -> None:
    (place / "examples").mkdir()
    path = place / "examples" / "a.webp"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(path, "WEBP", save_all=True, append_images=frames[1:])
    data = path.read_bytes()
    start = data.index(b"ANMF")
    length = struct.unpack("<I", data[start + 4 : start + 8])[0]
    hidden = b"JUNK" + struct.pack("<I", len(MARK)) + MARK.encode() + b"\x00" * (len(MARK) % 2)
    end = start + 8 + length
    data = data[: start + 4] + struct.pack("<I", length + len(hidden)) + data[start + 8 : end] + hidden + data[end:]
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])


def in_readme(line: str) -> Callable[[Path], None]:
    return text("README.md", f"{CARD}\n{line}\n")


CANARIES: dict[str, Callable[[Path], None]] = {
    "token in README.md": text("README.md", f"{CARD}\n`huggingface-cli login --token {TOKEN}`\n"),
    "token in run.json, in the command": entry("run.json", command=f"classify --hub_token {TOKEN}"),
    "token in config.json": entry("config.json", note={"deep": [TOKEN]}),
    "token in a YAML of results": text(".eval_results/a.yaml", f"token: {TOKEN}\n"),
    "token in the weights' metadata": in_weights,
    "token in the name of a JSON entry": entry("generation_config.json", **{TOKEN: 1}),
    "AWS key in eval_results.json": entry("eval_results.json", note="AKIAIOSFODNN7EXAMPLE " + MARK),
    "password in an address in README.md": text("README.md", f"{CARD}\npostgres://jane:{MARK}@db.example.org/x\n"),
    "private key in README.md": text("README.md", f"{CARD}\n-----BEGIN OPENSSH PRIVATE KEY-----\n{MARK}\n"),
    "private key of PGP in README.md": in_readme(f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n{MARK}"),
    "API key of another service in run.json": entry("run.json", arguments={"wandb_api_key": f"{MARK}0123456789"}),
    "home folder in run.json": entry("run.json", dataset={"source": HOME, "x": [f"{HOME}/a b/c.jpg"]}),
    "home folder in a command of run.json": entry("run.json", command=f"classify --dataset={HOME} --model '{HOME}/m'"),
    "home folder in config.json, _name_or_path": entry("config.json", _name_or_path=HOME),
    "home folder in generation_config.json": entry("generation_config.json", cache=f"file://{HOME}/cache"),
    "home folder in README.md": text("README.md", f"{CARD}\nTrained on `{HOME}/photos`, see ({HOME}).\n"),
    "home folder of Windows in run.json": entry("run.json", dataset={"source": r"C:\Users\jane_roe\secret_shop"}),
    "home folder in predictions.parquet": raw("predictions.parquet", f"PAR1{HOME}".encode()),
    "GPS and owner in EXIF of a JPEG": picture("widget/a.jpg", "JPEG", exif=exif()),
    "GPS and owner in EXIF of a PNG plot": picture("plots/bars.png", "PNG", exif=exif()),
    "GPS and owner in EXIF of a WebP": picture("examples/a.webp", "WEBP", exif=exif(), xmp=MARK.encode()),
    "texts in a PNG, compressed too": picture("plots/bars.png", "PNG", pnginfo=png_texts()),
    "comment and XMP in a JPEG": picture("widget/a.jpg", "JPEG", comment=MARK, xmp=MARK.encode()),
    "a file behind the end of a JPEG": after_the_end("widget/a.jpg", "JPEG"),
    "a file behind the end of a PNG": after_the_end("plots/bars.png", "PNG"),
    "pytorch_model.bin": raw("pytorch_model.bin"),
    "training_args.bin": raw("training_args.bin"),
    "optimizer.pt in a checkpoint": raw("checkpoint-9/optimizer.pt"),
    "optimizer.pt beside the model": raw("optimizer.pt"),
    "rng_state.pth, scheduler.pt": raw("rng_state.pth"),
    "a .pkl, a .npz, a .joblib": lambda place: [raw(f"vectors.{end}")(place) for end in ("pkl", "npz", "joblib")],  # type: ignore[func-returns-value]
    "a pickle called model.safetensors": raw("model.safetensors"),
    "a pickle called plots/bars.png": raw("plots/bars.png"),
    "a pickle called config.json": raw("config.json"),
    "bytes behind the weights": after_weights,
    ".env": text(".env", f"KEY={MARK}"),
    ".git/config": text(".git/config", f"url = https://jane:{MARK}@example.org"),
    "id_ed25519, .netrc, token": lambda place: [text(n, MARK)(place) for n in ("id_ed25519", ".netrc", "token")],  # type: ignore[func-returns-value]
    "a notebook": text("work.ipynb", json.dumps({"cells": [MARK]})),
    "a script and a log": lambda place: [text(n, MARK)(place) for n in ("train.py", "train.log")],  # type: ignore[func-returns-value]
    "events of TensorBoard": raw("runs/events.out.tfevents.1"),
    "config.json, a link out of the folder": link("config.json", "config.json"),
    "plots/bars.png, a link out of the folder": link("plots/bars.png", "photo.png"),
    "a folder that is a link out": link("examples", "."),
    "token in the name of a tensor": in_a_name_of_weights,
    "home folder in the weights' metadata": home_in_weights,
    "bytes between the weights": between_weights,
    "bytes behind the colours of a JPEG": in_the_colours_of_a_jpeg,
    "a part more in a frame of a WebP": in_a_frame_of_a_webp,
    "token behind X_": in_readme(f"X_{TOKEN}"),
    "token behind KEY": in_readme(f"KEY{TOKEN}"),
    "token in base64": in_readme(f"x {base64.b64encode(TOKEN.encode()).decode()}"),
    "token with a letter without width": in_readme(f"{TOKEN[:8]}\u200b{TOKEN[8:]} {MARK}"),
    "HF_TOKEN=": in_readme(f"HF_TOKEN={MARK}0123456789"),
    "token:": in_readme(f"token: {MARK}0123456789"),
    "DB_PASS=": in_readme(f"DB_PASS={MARK}0123456789"),
    "AccountKey=": in_readme(f"AccountKey={MARK}ABCDEFGHIJKLMNOPQRSTUV=="),
    "key of SendGrid": in_readme(f"SG.{MARK}aaaaaaaaaa.{'b' * 43}"),
    "key of Groq": in_readme(f"gsk_{'a7' * 20} {MARK}"),
    "hook of Slack": in_readme(f"https://hooks.slack.com/services/T00000000/B00000000/{MARK}"),
    "token in an address": in_readme(f"https://{MARK}0123456789@git.example.org/x"),
    "Bearer": in_readme(f"curl -H 'X: Bearer {MARK}0123456789'"),
    "password in an address with marks": raw("config.json", f'{{"a": "https:\\/\\/jane:{MARK}@h.org\\/x"}}'.encode()),
    "home folder in an entry that stands twice": raw("config.json", f'{{"a": "{HOME}/q", "a": 1}}'.encode()),
    "home folder alone in README.md": in_readme("cd /home/jane_roe"),
    "home folder alone, of a Mac": in_readme("cd /Users/jane_roe/"),
    "home folder alone in run.json": entry("run.json", place="/home/jane_roe"),
    "home folder behind : = -I @": in_readme(f"p:{HOME} PATH=/usr/bin:{HOME}/b -I{HOME}/c @{HOME}/d -v /data:{HOME}"),
    "home folder with a blank": in_readme("in /home/jane_roe smith/photos/x"),
    "home folder with a blank, of Windows": in_readme(r"in C:\Users\jane_roe smith\photos\x"),
    "home folder with slashes otherwise": in_readme("%2Fhome%2Fjane_roe%2Fx //home/jane_roe/x /c/Users/jane_roe/x"),
    "a text in Unicode's wide letters": raw("README.md", f"{CARD}{TOKEN}".encode("utf-16")),
}
NEVER = (TOKEN, HOME, "jane_roe", MARK, GPS)


def let_through(place: Path) -> tuple[list[str], str]:
    """What of the planted would leave with a folder, and what the push says of it."""
    try:
        made = clean.export(place, clean.MODEL)
    except InputError as error:
        return [], f"stops: {error.found}"
    found = []
    for path in made.files:
        content = made.files[path]
        data = content if isinstance(content, bytes) else content.read_bytes()
        whole = b"\n".join(parts(data))
        found += [f"{path}: {text}" for text in NEVER if any(spelt in whole for spelt in spellings(text))]
        found += [f"{path}: its name" for text in NEVER if text in path]
    changed = "; ".join(f"{path}: {why}" for path, why in made.changed.items())
    return found, changed or "stays at home"


def spellings(text: str) -> list[bytes]:
    plain = text.encode()
    return [plain, text.encode("utf-16-le"), text.encode("utf-16-be"), base64.b64encode(plain).rstrip(b"=")]


def parts(data: bytes) -> list[bytes]:
    """The bytes, and what compressed chunks of a PNG hold."""
    found, place = [data], 8
    while data.startswith(b"\x89PNG") and place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        content = data[place + 8 : place + 8 + length]
        for start in (content.find(b"\x00") + 2, content.rfind(b"\x00\x00") + 2):
            with contextlib.suppress(zlib.error):
                found.append(zlib.decompress(content[start:]))
        place += 12 + length
        if kind == b"IEND":
            break
    return found


def main() -> int:
    count = 0
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as root:
        print(f"| {'planted':<44} | let through | what the push does |\n|{'-' * 46}|-------------|---|")
        for number, (name, plant) in enumerate(CANARIES.items()):
            place = folder(Path(root) / str(number))
            plant(place)
            found, told = let_through(place)
            count += bool(found)
            print(f"| {name:<44} | {'; '.join(found) or 'nothing':<11} | {told.replace(root, '')[:90]} |")
    print(f"\n{count} of {len(CANARIES)} let through")
    return count


if __name__ == "__main__":
    sys.exit(main())
