"""Exceptions among families: those that `HFModel` does not support fully."""

__all__ = ["NOTES", "NOT_BUILT", "PENDING", "PENDING_IN_4", "REFUSED"]

_NO_TEMPLATE = "expected a processor with a chat template"
_CAPTIONS = "published without a chat template: it continues captions"
_READS = "published without a chat template: it transcribes"
# model type → (what the error says, why)
REFUSED: dict[str, tuple[str, str]] = {
    "blip": (_NO_TEMPLATE, _CAPTIONS),
    "blip-2": (_NO_TEMPLATE, _CAPTIONS),
    "git": (_NO_TEMPLATE, _CAPTIONS),
    "kosmos-2": (_NO_TEMPLATE, _CAPTIONS),
    "idefics": (_NO_TEMPLATE, "published without a chat template"),
    "instructblip": (_NO_TEMPLATE, "published without a chat template"),
    "instructblipvideo": (_NO_TEMPLATE, "published without a chat template; it takes videos"),
    "fuyu": (_NO_TEMPLATE, "published without a chat template"),
    "florence2": (_NO_TEMPLATE, "published without a chat template: it takes task tokens; an encoder–decoder"),
    "kosmos-2.5": (_NO_TEMPLATE, _READS),
    "pix2struct": (_NO_TEMPLATE, f"{_READS}; an encoder–decoder"),
    "pp_formulanet": (_NO_TEMPLATE, f"{_READS}; an encoder–decoder"),
    "udop": (_NO_TEMPLATE, f"{_READS}; an encoder–decoder"),
    "vision-encoder-decoder": (_NO_TEMPLATE, f"{_READS}; an encoder–decoder"),
    "pi0": (
        "expected a Hugging Face model with `config` and `generate`",
        "a robot policy: it outputs actions, not text",
    ),
    "evolla": ("to give an image a place", "it reads proteins; its chat template has no place for an image"),
    "diffusion_gemma": (
        "does not decode token by token",
        "it generates blocks by diffusion, not token by token",
    ),
    "shieldgemma2": ("to keep the rendered text", "its processor replaces the prompt with its own text"),
    "t5gemma2": ("expected a decoder-only model", "an encoder–decoder"),
    "llama4": ("to answer one prompt with an image", "every forward raises in transformers 5.24"),
    "mistral4": ("expected a processor with a tokenizer", "a language model only, without an image processor"),
}
# What is not built, and why.
NOT_BUILT: dict[str, str] = {
    "pixtral": "in transformers 4 only: the name of an image encoder, whose models are LLaVA's",
}
_ALONE = "prompts are run one by one, because"
# What holds for a family beside being right.
NOTES: dict[str, str] = {
    "emu3": f"{_ALONE} a batch of images of several sizes changes what is seen (upstream)",
    "hunyuan_vl": f"{_ALONE} images are numbered across a batch, which moves them (upstream)",
    "minimax_m3_vl": f"{_ALONE} its sparse attention counts padding (upstream)",
    "perception_lm": "several images in one prompt only if they are split into equally many tiles",
    "phi4_multimodal": f"{_ALONE} another image in the batch changes what is seen (upstream)",
    "qwen2_5_omni": "only its thinker, which reads and writes text, is used",
    "qwen3_omni_moe": "only its thinker, which reads and writes text, is used",
    "unlimited_ocr": "the checkpoints' chat templates have no roles",
}
# model type → what is wrong today
PENDING: dict[str, str] = {}
# What is not right with transformers 4 alone.
PENDING_IN_4: dict[str, str] = {
    "chameleon": "its config cannot be made of parts: not built",
    "emu3": "refused: the image makes no difference",
    "got_ocr2": "refused: its processor expands no placeholders",
}
