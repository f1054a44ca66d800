"""Compare steps that share prefixes with TRL's own steps, on the bundled model."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
import zoo
from datasets import Dataset
from peft import LoraConfig
from PIL import Image
from transformers.image_utils import to_numpy_array

import vlmrobust as vr
from vlmrobust.rl.shared_rows import PaddedPrompts, SharedRows, unique_rows
from vlmrobust.rl.shared_trainer import _DistinctPrompts, _DistinctRows

# TRL still sets options that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

BATCH = {"per_device_train_batch_size": 12, "num_generations": 4, "max_completion_length": 48}


def both_trainers(grpo: Callable[..., Any], out: Path, **settings: Any) -> tuple[Any, Any]:
    """Return TRL's trainer and ours with the same weights."""
    trainers = tuple(grpo(out, trainer_class=kind, **BATCH, **settings) for kind in (None, vr.rl.SharedGRPOTrainer))
    for trainer in trainers:
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
    return trainers


def make_batch(trainer: Any) -> list[dict[str, Any]]:
    """Return three rows, one with a prefilled thought, each repeated for its completions."""
    rows = list(trainer.train_dataset)
    with_prefill = next(row for row in rows if row["prefill"])
    without = [row for row in rows if not row["prefill"]][:2]
    return [copy.copy(row) for row in (without[0], with_prefill, without[1]) for _ in range(4)]


def make_completions(trainer: Any, count: int) -> list[list[int]]:
    """Return completions of various lengths, some of them equal within a prompt."""
    texts = [
        "<think>I see a red circle northwest, nothing northeast.</think><answer>A</answer><|im_end|>",
        "<think>I see a red circle northwest, nothing northeast.</think><answer>B</answer><|im_end|>",
        "<think>So the answer is red.</think><answer>C</answer>",
        "<think>I see a red circle northwest, nothing northeast.</think><answer>A</answer><|im_end|>",
    ]
    tokenizer = trainer.processing_class.tokenizer
    return [tokenizer(texts[row % len(texts)], add_special_tokens=False)["input_ids"] for row in range(count)]


def scored_batch(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return a batch with the completions of `make_completions`."""
    rows = make_batch(trainer)
    monkeypatch.setattr(
        trainer, "_generate_single_turn", lambda *args, **kwargs: (make_completions(trainer, len(rows)), None)
    )
    return trainer._generate_and_score_completions(rows)


def test_rewards_and_batches_equal_trls(
    grpo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers = both_trainers(grpo, tmp_path, rewards=[vr.rl.faithfulness_reward, vr.rl.accuracy_reward])
    theirs, ours = (scored_batch(trainer, monkeypatch) for trainer in trainers)
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, ours[name]), name
        else:
            assert value == ours[name], name
    rewards = [dict(trainer._logs["rewards"]) for trainer in trainers]
    assert rewards[0] == rewards[1]
    assert len(set(rewards[0]["accuracy_reward"])) == 2


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beta": 0.05},
        {"num_iterations": 2},
        {"temperature": 0.7, "loss_type": "grpo"},
        {"entropy_coef": 0.01},
        {"mask_truncated_completions": True},
        {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)},
    ],
    ids=("plain", "reference", "old", "another loss", "entropy bonus", "truncated", "adapter"),
)
def test_loss_and_gradient_equal_trls(
    grpo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    trainers = both_trainers(grpo, tmp_path, **settings)
    trainers[1].model.load_state_dict(trainers[0].model.state_dict())  # an adapter begins with random weights
    found = []
    for trainer in trainers:
        inputs = scored_batch(trainer, monkeypatch)
        # One prompt whose completions are all worth the same, and two whose are not.
        inputs["advantages"] = torch.tensor([0.5, -1.5, 1.0, 0.0, 0, 0, 0, 0, 1.0, 1.0, -1.0, -1.0])
        order = torch.tensor([7, 2, 11, 0, 5, 9, 1, 4, 8, 3, 10, 6])  # TRL shuffles a batch
        mixed = shuffle_batch(inputs, order)
        loss = trainer._compute_loss(trainer.model, mixed)
        loss.backward()
        gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
        metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
        found.append((loss.item(), gradients, metrics))
    (their_loss, theirs, their_metrics), (our_loss, ours, our_metrics) = found
    assert our_loss == pytest.approx(their_loss, abs=1e-6)
    assert theirs.keys() == ours.keys()
    assert max(float(gradient.abs().max()) for gradient in theirs.values()) > 1e-3
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-4, atol=1e-6), name
    assert our_metrics == pytest.approx(their_metrics, abs=1e-5)


def shuffle_batch(inputs: dict[str, Any], order: torch.Tensor) -> dict[str, Any]:
    from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

    rows = split_pixel_values_by_grid(inputs)
    mixed = {
        name: value
        if isinstance(value, torch.Tensor) and value.ndim == 0
        else value[order]
        if isinstance(value, torch.Tensor)
        else [value[row] for row in order.tolist()]
        for name, value in rows.items()
    }
    return unsplit_pixel_values_by_grid(mixed)


def test_a_batch_without_advantages_has_zero_gradient(
    grpo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, trainer = both_trainers(grpo, tmp_path)
    inputs = scored_batch(trainer, monkeypatch) | {"advantages": torch.zeros(12)}
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())


def prompts_of(trainer: Any, rows: list[dict[str, Any]]) -> PaddedPrompts:
    processor = trainer.processing_class
    texts = [processor.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False) for row in rows]
    encoded = processor(
        text=texts,
        images=[row["images"] for row in rows],
        padding=True,
        padding_side="left",
        return_tensors="pt",
        return_mm_token_type_ids=True,
    )
    grids = list(encoded["image_grid_thw"].split(1))
    pixels = list(encoded["pixel_values"].split([int(grid.prod()) for grid in grids]))
    return PaddedPrompts(encoded["input_ids"], encoded["attention_mask"], encoded["mm_token_type_ids"], pixels, grids)


def test_tokens_are_drawn_from_the_logits_of_a_single_row(grpo: Callable[..., Any], tmp_path: Path) -> None:
    """Splitting and finished rows do not affect others: each completion run alone has the same logits."""
    trainer = grpo(tmp_path)
    model = trainer.model.eval()
    rows = list(trainer.train_dataset)
    prompts = prompts_of(trainer, [rows[0], next(row for row in rows if row["prefill"]), rows[2]])
    prompt_rows = [0, 0, 0, 1, 1, 2, 2, 2, 2]
    generator = torch.Generator().manual_seed(4)
    seen: list[torch.Tensor] = []

    def choose(logits: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        seen.append(logits[at])
        return torch.multinomial((logits[at] / 3.0).softmax(-1), 1, generator=generator)[:, 0]

    stop = trainer.processing_class.tokenizer.eos_token_id
    shared = SharedRows(model)
    texts = shared.sample(prompts, prompt_rows, choose, [stop], 12)
    assert len({tuple(text) for text in texts}) > 6
    assert shared.row_steps < sum(len(text) - 1 for text in texts)
    position = [0] * len(texts)  # where the completion stands among those that were asked for at each step
    for step, logits in enumerate(seen):
        unfinished = [completion for completion, text in enumerate(texts) if len(text) > step]
        assert len(unfinished) == len(logits)
        for row, completion in enumerate(unfinished):
            text, prompt = texts[completion], prompts.select([prompt_rows[completion]])
            tokens = torch.cat([prompt.tokens, torch.tensor([text[:step]], dtype=torch.long)], dim=1)
            types = torch.nn.functional.pad(prompt.types, (0, step))
            inputs = prompt.inputs() | {"input_ids": tokens, "mm_token_type_ids": types}
            inputs["attention_mask"] = torch.ones_like(tokens)
            with torch.no_grad():
                alone = model(**inputs).logits[0, -1]
            assert torch.allclose(logits[row], alone, atol=2e-4)
            position[completion] += 1
    assert position == [len(text) for text in texts]
    assert all(len(text) == 12 or text[-1] == stop for text in texts)


def test_tokens_are_drawn_with_their_probabilities(grpo: Callable[..., Any], tmp_path: Path) -> None:
    trainer = grpo(tmp_path, trainer_class=vr.rl.SharedGRPOTrainer, max_completion_length=1, temperature=4.0)
    row = next(iter(trainer.train_dataset))
    prompts = prompts_of(trainer, [row])
    with torch.no_grad():
        logits = trainer.model.eval()(**prompts.inputs()).logits[0, -1] / 4.0
    logits[trainer.model.config.image_token_id] = -torch.inf
    expected = logits.softmax(-1)
    torch.manual_seed(0)
    count = 2_000
    ids = [prompts.tokens[0].tolist()] * count
    fields = {
        "pixel_values": torch.cat(list(prompts.pixels) * count),
        "image_grid_thw": torch.cat(list(prompts.grids) * count),
        "mm_token_type_ids": [prompts.types[0].tolist()] * count,
    }
    texts, _ = trainer._generate_single_turn(ids, [row["images"]] * count, fields, 4)
    counts = torch.bincount(torch.tensor([text[0] for text in texts]), minlength=len(expected))
    spread = (count * expected * (1 - expected)).sqrt()
    assert ((counts - count * expected).abs() <= 5 * spread + 3).all()
    assert (counts > 0).sum() > 10


def test_a_processor_runs_once_for_each_distinct_prompt(grpo: Callable[..., Any], tmp_path: Path) -> None:
    trainer = grpo(tmp_path)
    rows = make_batch(trainer)
    own, once = trainer.processing_class, _DistinctPrompts(trainer.processing_class)
    texts = [own.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False) for row in rows]
    images = [row["images"] for row in rows]
    # Another image with the same text is another prompt.
    images[1] = [rows[8]["images"][0]]
    expected, found = (p(images=images, text=texts, padding=True, return_tensors="pt") for p in (own, once))
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert not torch.equal(found["pixel_values"][:16], found["pixel_values"][16:32])


@pytest.mark.parametrize(
    ("family", "trainer_class"),
    [("qwen2_5_vl", "GRPOTrainer"), ("qwen2_5_vl", "SharedGRPOTrainer"), ("gemma3", "SharedGRPOTrainer")],
)
def test_kinds_of_tokens_are_those_of_the_prompts_tokens(family: str, trainer_class: str, tmp_path: Path) -> None:
    # Qwen's processors pad on the right, and Gemma's tokenizers add a BOS to a text that has one.
    made = zoo.build(family)
    shared = trainer_class == "SharedGRPOTrainer"
    image = Image.effect_noise((56, 56), 64).convert("RGB")
    questions = ["Which colour?", "Which of the two is further to the left, as seen from here?"]
    seen = []

    class Watched(vr.rl.SharedGRPOTrainer if shared else trl.GRPOTrainer):  # type: ignore[misc]
        def _get_per_token_logps_and_entropies(self, model: Any, input_ids: Any, *args: Any, **fields: Any) -> Any:
            [kinds] = [fields[name] for name in ("mm_token_type_ids", "token_type_ids") if fields[name] is not None]
            seen.append((kinds, input_ids == self.model.config.image_token_id))
            return super()._get_per_token_logps_and_entropies(model, input_ids, *args, **fields)

    trainer = Watched(
        made.model,
        vr.rl.format_reward,
        args=trl.GRPOConfig(
            str(tmp_path),
            max_steps=1,
            num_generations=2,
            per_device_train_batch_size=4,
            max_completion_length=3,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(
            [{"prompt": [{"role": "user", "content": question}], "image": image} for question in questions]
        ),
        processing_class=made.processor if shared else vr.rl.continue_prefill(made.processor),
    )
    trainer.train()
    assert seen
    for kinds, is_image in seen:
        assert torch.equal(kinds == 1, is_image)
        assert is_image.any(1).all()


@pytest.mark.parametrize("make", [lambda image: image, to_numpy_array], ids=["pil", "numpy"])
def test_images_that_differ_in_their_palette_alone_are_different(make: Callable[[Any], Any]) -> None:
    own = vr.demo.model().processor
    shown = Image.new("P", (56, 56), 0), Image.new("P", (56, 56), 0)
    for image, colour in zip(shown, ((255, 0, 0), (0, 0, 255)), strict=True):
        image.putpalette(colour)
    images = [[make(image.convert("RGB") if make is to_numpy_array else image)] for image in shown]
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which colour is it?"}]}]
    texts = [own.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)] * 2
    found, expected = (p(images=images, text=texts, return_tensors="pt") for p in (_DistinctPrompts(own), own))
    assert torch.equal(found["pixel_values"], expected["pixel_values"])
    conversations = [
        [{"role": "user", "content": [{"type": "image", "image": image}, turns[0]["content"][1]]}]
        for (image,) in images
    ]
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
    found, expected = (p.apply_chat_template(conversations, **options) for p in (_DistinctPrompts(own), own))
    assert torch.equal(found["pixel_values"], expected["pixel_values"])


def test_conversations_that_differ_outside_of_the_text_are_different() -> None:
    own = vr.demo.model().processor
    image = Image.new("RGB", (56, 56))
    conversations = [
        [
            {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "Which colour?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Let me look."}], "reasoning_content": thought},
            {"role": "user", "content": [{"type": "text", "text": "Go on."}]},
        ]
        for thought in ("I see red.", "I see blue.", "I see red.")
    ]
    template = (
        "{% for turn in messages %}{{ turn.reasoning_content }}{% for part in turn.content %}"
        "{{ part.text if part.type == 'text' else '<|vision_start|><|image_pad|><|vision_end|>' }}"
        "{% endfor %}{% endfor %}"
    )
    options = {"chat_template": template, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    found, expected = (p.apply_chat_template(conversations, **options) for p in (_DistinctPrompts(own), own))
    assert expected["input_ids"][0].tolist() != expected["input_ids"][1].tolist()
    assert torch.equal(found["input_ids"], expected["input_ids"])
    assert torch.equal(found["pixel_values"], expected["pixel_values"])


def test_repeated_rows_are_read_once(grpo: Callable[..., Any], tmp_path: Path) -> None:
    rows = grpo(tmp_path).train_dataset
    read = _DistinctRows(rows).__getitems__([5, 5, 2, 5])
    assert [row["question"] for row in read] == [rows[place]["question"] for place in (5, 5, 2, 5)]
    assert read[0]["images"][0] is read[3]["images"][0]
    assert (to_numpy_array(read[2]["images"][0]) == to_numpy_array(rows[2]["images"][0])).all()


def test_training_is_reproducible(grpo: Callable[..., Any], tmp_path: Path) -> None:
    histories = []
    for _ in range(2):
        trainer = grpo(tmp_path, trainer_class=vr.rl.SharedGRPOTrainer, max_steps=2, **BATCH)
        trainer.train()
        kept = [{k: v for k, v in e.items() if "time" not in k} for e in trainer.state.log_history if "reward" in e]
        histories.append(kept)
    assert histories[0] == histories[1]
    assert [entry["step"] for entry in histories[0]] == [1, 2]
    assert any(entry["grad_norm"] > 0 for entry in histories[0])


def test_unsupported_settings_are_left_to_trl(
    grpo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = grpo(
        tmp_path,
        trainer_class=vr.rl.SharedGRPOTrainer,
        max_steps=1,
        repetition_penalty=1.1,
        gradient_checkpointing=True,
        **BATCH,
    )
    monkeypatch.setattr(SharedRows, "sample", None)
    monkeypatch.setattr(SharedRows, "scores", None)
    trainer.train()
    assert trainer.state.global_step == 1


@pytest.mark.parametrize(
    "option",
    [{"min_p": 0.99}, {"bad_words_ids": [[34], [104]]}, {"no_repeat_ngram_size": 1}],
    ids=lambda option: next(iter(option)),
)
def test_options_of_the_models_generation_config_hold_as_in_trl(
    grpo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: dict[str, Any]
) -> None:
    settings = BATCH | {"temperature": 4.0, "max_completion_length": 6}
    trainer = grpo(tmp_path, trainer_class=vr.rl.SharedGRPOTrainer, **settings)
    trainer.model.train()
    trainer.model.generation_config.update(**option)
    monkeypatch.setattr(SharedRows, "sample", None)
    rollouts = trainer._generate_and_score_completions(make_batch(trainer))
    tokens = rollouts["completion_ids"][rollouts["completion_mask"].bool()].tolist()
    assert 34 not in tokens or "bad_words_ids" not in option
    assert len(set(tokens)) < 30 or "min_p" not in option


@pytest.mark.parametrize(
    "option",
    [
        {"temperature": 0.1, "top_k": 1, "repetition_penalty": 1.5},
        {"max_length": 9, "bos_token_id": 1},
        {"_from_model_config": True, "output_attentions": False, "num_beams": 1, "typical_p": 1.0},
    ],
    ids=("set by TRL", "inert", "defaults"),
)
def test_options_that_do_nothing_do_not_matter(
    grpo: Callable[..., Any], tmp_path: Path, option: dict[str, Any]
) -> None:
    trainer = grpo(tmp_path, trainer_class=vr.rl.SharedGRPOTrainer, **BATCH | {"temperature": 4.0})
    trainer.model.train()
    trainer.model.generation_config.update(**option)
    rollouts = trainer._generate_and_score_completions(make_batch(trainer))
    assert trainer._shared.row_steps > 0
    assert len(rollouts["completion_ids"].unique()) > 10


def test_a_model_whose_output_changes_with_a_cache_shares_nothing(
    grpo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, trainer = both_trainers(grpo, tmp_path)
    own = trainer.model.model.language_model.forward

    def other(*args: Any, **kwargs: Any) -> Any:
        output = own(*args, **kwargs)
        if kwargs["inputs_embeds"].shape[1] == 1:
            output.last_hidden_state = output.last_hidden_state + 0.1
        return output

    monkeypatch.setattr(trainer.model.model.language_model, "forward", other)
    monkeypatch.setattr(SharedRows, "sample", None)
    monkeypatch.setattr(SharedRows, "scores", None)
    loss = trainer._compute_loss(trainer.model, trainer._generate_and_score_completions(make_batch(trainer)))
    assert loss.requires_grad
    assert "prefixes are not shared, as its log-probabilities with a cache differ by" in caplog.text


def test_unique_rows() -> None:
    assert unique_rows([(1, b"x"), (1, b"y"), (1, b"x"), (2, b"x")]) == ([0, 1, 3], [0, 1, 0, 2])
