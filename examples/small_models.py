"""Models and rows of examples/small.toml: an earlier stage of the bundled model, and tiny random models.

The study file names these functions as factories. The rows are drawn by the bundled generator and written in the
layouts of CV-Bench and 3DSRBench. To draw them again:

    python examples/small_models.py
"""

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import torch

import vlmrobust as vr

NEW_TOKENS = {"max_new_tokens": 80}


def demo(noise: float = 0.0) -> vr.HFModel:
    """The bundled model, with noise on its weights to imitate an earlier stage of training."""
    model = vr.demo.model(generation=NEW_TOKENS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.model.parameters():
            if weight.ndim >= 2 and noise:
                weight += noise * weight.std() * torch.randn(weight.shape, generator=generator)
    return model


def qwen2_5_vl(new_tokens: int = 12) -> vr.HFModel:
    """A Qwen2.5-VL with random weights and the bundled processor."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    bundled = vr.demo.model()
    settings = bundled.model.config.to_dict()
    del settings["text_config"]["layer_types"]
    settings["text_config"]["num_hidden_layers"] = 2
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**settings))
    return vr.HFModel(model.eval(), bundled.processor, {"max_new_tokens": new_tokens})


def internvl(new_tokens: int = 12) -> vr.HFModel:
    """An InternVL with random weights; its tokenizer is the bundled one with InternVL's image tokens."""
    import transformers as hf

    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    bundled = vr.demo.model().processor
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=bundled.tokenizer.backend_tokenizer,
        extra_special_tokens=named | {"video_token": "<video>"},
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessor(size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=3),
        tokenizer,
        hf.InternVLVideoProcessor(size={"height": 56, "width": 56}),
        image_seq_length=4,
        chat_template=bundled.chat_template.replace(image, "<IMG_CONTEXT>\n"),
    )
    width = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = hf.InternVLConfig(
        text_config=hf.Qwen2Config(
            **width, intermediate_size=96, num_key_value_heads=2, vocab_size=len(tokenizer), tie_word_embeddings=False
        ),
        vision_config={**width, "intermediate_size": 96, "image_size": [56, 56], "patch_size": [14, 14]},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    model = hf.InternVLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return vr.HFModel(model.eval(), processor, {"max_new_tokens": new_tokens})


def write_rows(folder: Path, samples: int = 40) -> None:
    """Write counts and relations in CV-Bench's layout, colours and shapes in 3DSRBench's."""
    drawn = [(sample, sample.metadata["kind"]) for sample in vr.demo.samples(samples, seed=404)]
    counts = [(sample, kind) for sample, kind in drawn if kind in ("count", "relation")]
    others = [(sample, kind) for sample, kind in drawn if kind in ("colour", "shape")]
    _write_cv_bench(counts, folder / "cv-bench")
    _write_3dsrbench(others, folder / "3dsrbench.tsv")


def _write_cv_bench(drawn: list[tuple[vr.Sample, str]], folder: Path) -> None:
    lines = []
    for index, (sample, kind) in enumerate(drawn):
        name = f"img/2D/{kind}/shapes_{index}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_png(sample))
        row: dict[str, Any] = {"idx": index, "type": "2D", "task": {"count": "Count", "relation": "Relation"}[kind]}
        row |= {"question": sample.question, "choices": list(sample.options), "answer": f"({'ABCD'[sample.answer]})"}
        lines.append(row | {"filename": name, "source": "Shapes", "source_filename": sample.id})
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _write_3dsrbench(drawn: list[tuple[vr.Sample, str]], file: Path) -> None:
    header = ["index", "question", "A", "B", "C", "D", "answer", "category", "image", "qid"]
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        for index, (sample, kind) in enumerate(drawn):
            image = base64.b64encode(_png(sample)).decode()
            given = ["ABCD"[sample.answer], kind, image, f"SHAPE{index:03}"]
            writer.writerow([index, sample.question, *sample.options, *given])


def _png(sample: vr.Sample) -> bytes:
    out = io.BytesIO()
    image: Any = sample.images[0]
    image.save(out, format="PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    write_rows(Path(__file__).parent / "small")
