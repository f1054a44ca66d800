"""Special tokens that several families share."""

__all__ = ["COHERE_TOKENS", "COHERE_USUAL", "DEEPSEEK_USUAL", "HUNYUAN_TOKENS", "HUNYUAN_USUAL", "LFM_USUAL"]

COHERE_USUAL = {"bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>", "pad_token": "<PAD>"}
COHERE_TOKENS = ("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>")
LFM_USUAL = {"bos_token": "<|startoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
HUNYUAN_USUAL = {"bos_token": "<|hy_begin|>", "eos_token": "<|hy_end|>", "pad_token": "<|hy_pad|>"}
HUNYUAN_TOKENS = ("<|hy_User|>", "<|hy_Assistant|>", "<|hy_system|>")
DEEPSEEK_USUAL = {
    "bos_token": "<|begin_of_sentence|>",
    "eos_token": "<|end_of_sentence|>",
    "pad_token": "<|pad|>",
}
