"""What `HFModel` makes of each family: right unless it stands here."""

__all__ = ["NOTES", "NOT_BUILT", "PENDING", "REFUSED"]

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
    "pi0": (_NO_TEMPLATE, "a robot's policy: it writes movements, not text"),
    "evolla": ("to give an image a place", "it reads proteins; its chat template gives an image no place"),
    "mistral4": ("expected a processor with a tokenizer", "a language model alone, without a processor of images"),
}
# What is not built, and why.
NOT_BUILT: dict[str, str] = {
    "pixtral": "in transformers 4 only: the name of an image encoder, whose models are LLaVA's",
}
# What holds for a family beside being right.
NOTES: dict[str, str] = {
    "perception_lm": "several images in one prompt only where they are cut into equally many tiles",
    "unlimited_ocr": "chat templates of the checkpoints know no roles",
}
# model type → what is wrong today
PENDING: dict[str, str] = {
    "chameleon": "its processor appends a token behind the prefill",
    "cosmos3_edge": "its processor does not return `mm_token_type_ids` unless asked",
    "diffusion_gemma": "it writes blocks by diffusion, not token by token",
    "emu3": "a batch of images of several sizes changes what is seen (upstream)",
    "exaone4_5": "its template closes an empty thought before the prefill",
    "got_ocr2": "its processor takes no nested images",
    "hunyuan_vl": "images are numbered across the batch, which moves them (upstream)",
    "inkling_mm_model": "its logits are narrower than its head",
    "llama4": "every forward raises in transformers 5.24 (upstream)",
    "minimax_m3_vl": "its sparse attention counts padding, so that a batch changes the answer (upstream)",
    "nemotron_h_omni": "its LM head is not where `get_output_embeddings` looks",
    "phi4_multimodal": "another image in the batch changes what is seen (upstream)",
    "qwen2_5_omni": "the model that reads and writes is a part of it, its thinker",
    "qwen3_omni_moe": "the model that reads and writes is a part of it, its thinker",
    "shieldgemma2": "its processor puts texts of its own in place of the prompt",
    "t5gemma2": "an encoder–decoder",
}
