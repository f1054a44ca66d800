"""Chat templates of families with one test each, reduced like the others."""

from .templates import chatml

# A closed, empty thought unless one is asked for.
EXAONE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<vision><|image_pad|></vision>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|endofturn|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n"
    "{% if enable_thinking is defined and enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)


def cohere(image: str, opener: str = "") -> str:
    """Return a template as Command's and Aya's: BOS, roles as tokens, no line breaks, content stripped."""
    return (
        "{{ bos_token }}{% set roles = {'user': 'USER', 'assistant': 'CHATBOT', 'system': 'SYSTEM'} %}"
        "{% for message in messages %}<|START_OF_TURN_TOKEN|><|{{ roles[message['role']] }}_TOKEN|>"
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + image + "{% else %}{{ part['text'] | trim }}{% endif %}"
        "{% endfor %}<|END_OF_TURN_TOKEN|>{% endfor %}"
        "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>" + opener + "{% endif %}"
    )


PADDLE = (
    "{{ cls_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}User: {% endif %}"
    "{% for part in message['content'] if part['type'] == 'image' %}"
    "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
# Pictures are numbered.
ERNIE = (
    "{{ cls_token }}{% set count = namespace(value=0) %}{% for message in messages %}"
    "{% if message['role'] == 'user' %}User: {% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{% set count.value = count.value + 1 %}"
    "Picture {{ count.value }}:<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant: {% endif %}"
)


def glm(opener: str) -> str:
    """Return a template as GLM's: a prefix, roles as tokens, nothing at a turn's end."""
    return (
        "[gMASK]<sop>{% for message in messages %}<|{{ message['role'] }}|>\n"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        "<|begin_of_image|><|image|><|end_of_image|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n" + opener + "{% endif %}"
    )


def hunyuan(image: str) -> str:
    """Return a template as Hunyuan's: a turn's role stands behind its text."""
    return (
        "{{ bos_token }}{% for message in messages %}{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + image + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
        "{% if message['role'] == 'user' %}<|hy_User|>{% elif message['role'] == 'system' %}<|hy_system|>"
        "{% else %}{{ eos_token }}{% endif %}{% endfor %}"
    )


KIMI = (
    "{% for message in messages %}<|im_{{ message['role'] }}|>{{ message['role'] }}<|im_middle|>"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|media_begin|>image<|media_content|><|media_pad|><|media_end|>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_assistant|>assistant<|im_middle|>"
    "{% if thinking is defined and not thinking %}<think></think>{% else %}<think>{% endif %}{% endif %}"
)
MINIMAX = (
    "]~!b[{% for message in messages %}]~b]{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}]<]image[>[{% else %}{{ part['text'] }}{% endif %}{% endfor %}[e~[\n{% endfor %}"
    "{% if add_generation_prompt %}]~b]ai\n<think>\n{% endif %}"
)


def llama(image: str, *, four: bool = False) -> str:
    """Return a template as Llama 3's, or 4's: BOS in the text, headers, content stripped."""
    start, end = ("<|header_start|>", "<|header_end|>") if four else ("<|start_header_id|>", "<|end_header_id|>")
    eot = "<|eot|>" if four else "<|eot_id|>"
    return (
        "{{ bos_token }}{% for message in messages %}" + start + "{{ message['role'] }}" + end + "\n\n"
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + image + "{% else %}{{ part['text'] | trim }}{% endif %}"
        "{% endfor %}" + eot + "{% endfor %}"
        "{% if add_generation_prompt %}" + start + "assistant" + end + "\n\n{% endif %}"
    )


DOTS = (
    "{% for message in messages %}"
    "{% set end = 'system' if message['role'] == 'system' else 'userprompt' %}"
    "<|{{ 'system' if message['role'] == 'system' else 'userprompt' }}|>{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|img|><|imgpad|><|endofimg|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|endof{{ end }}|>{% endfor %}{% if add_generation_prompt %}<|response|>{% endif %}"
)
# Knows no system role; no generation prompt: the answer begins after [/INST].
LLAVA_NEXT = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}[INST] "
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %} [/INST]{% endfor %}"
)
VIPLLAVA = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'][0]['text'] }}"
    "{% else %}###{{ 'Human' if message['role'] == 'user' else 'Assistant' }}: "
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}###Assistant:{% endif %}"
)
GRANITE = (
    "{% for message in messages %}<|start_of_role|>{{ message['role'] }}<|end_of_role|>"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|end_of_text|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
# The system's text stands bare.
DEEPSEEK = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'][0]['text'] }}\n\n"
    "{% else %}{{ message['role'] | capitalize }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image_placeholder>{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
JANUS = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'][0]['text'] }}\n\n"
    "{% else %}<|{{ message['role'] | capitalize }}|>: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image_placeholder>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|Assistant|>:{% endif %}"
)

IDEFICS2 = (
    "{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
# No roles at all.
DEEPSEEK_OCR = (
    "{{ bos_token }}{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
STEP = "{{ bos_token }}" + chatml("<im_patch>", opener="<think>\n")
# Turns have tags of their own; content is stripped.
GEMMA4 = (
    "{{ bos_token }}{% for message in messages %}"
    "<|turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|image|>{% else %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}<turn|>\n{% endfor %}{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)
APERTUS = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}_start|>"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|img|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|{{ message['role'] }}_end|>{% endfor %}{% if add_generation_prompt %}<|assistant_start|>{% endif %}"
)
# Meta publishes none: texts one after another.
CHAMELEON = (
    "{{ bos_token }}{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
)
EMU3 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
INKLING = (
    "{% for message in messages %}<|message_{{ 'model' if message['role'] == 'assistant' else message['role'] }}|>"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|content_image|><|unused_200054|>"
    "{% else %}<|content_text|>{{ part['text'] }}{% endif %}{% endfor %}<|end_message|>{% endfor %}"
    "{% if add_generation_prompt %}<|message_model|><|content_text|>{% endif %}"
)
PHI4 = (
    "{% for message in messages %}<|{{ message['role'] }}|>{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|endoftext10|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
