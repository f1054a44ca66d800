#!/usr/bin/env bash
# trl 1.16.0 with math-verify 0.9.0: `accuracy_reward` pays no answer to a multiple-choice question whose solution is a
# letter, and pays wrong words whose letters are those of the right word.
#
# The solution is parsed as mathematics. "B", "(B)", "Answer: B" or "Yes" hold none: the reward is None for every answer,
# which the trainer takes for "does not apply" and gives no advantage; the run goes on and learns nothing from it.
# "B. 4", a letter with its option, is the number 4: the answer \boxed{B} earns 0, and so does \boxed{B. 4}.
# A word in a box without \text is a product of its letters, which commutes: \boxed{no} is right where "on" is asked for,
# \boxed{act} where "cat" is. A letter in a box works, in either case (\boxed{b} for B), and also as the right side of an
# equation (\boxed{A = B} for B).
# Seen on 10 pairs, which are below. Of use: solutions as \boxed{\text{…}}, words in answers compared as strings.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "trl==1.16.0" "transformers==5.24.0" "torch==2.14.1" "math-verify==0.9.0" \
    "latex2sympy2_extended==1.11.0"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
"$folder/venv/bin/python" - <<'PYTHON'
from trl.rewards import accuracy_reward

expected = {
    ("B", r"\boxed{B}"): None,
    ("(B)", r"\boxed{B}"): None,
    ("Answer: B", r"\boxed{B}"): None,
    ("Yes", r"\boxed{Yes}"): None,
    ("B. 4", r"\boxed{B}"): 0.0,
    ("B. 4", r"\boxed{B. 4}"): 0.0,
    (r"\boxed{on}", r"\boxed{no}"): 1.0,
    (r"\boxed{cat}", r"\boxed{act}"): 1.0,
    (r"\boxed{B}", r"\boxed{B}"): 1.0,
    (r"\boxed{B}", r"\boxed{A}"): 0.0,
}
found = {}
for solution, answer in expected:
    [found[solution, answer]] = accuracy_reward([[{"role": "assistant", "content": answer}]], [solution])
    print(f"solution {solution:12} answer {answer:14} reward {found[solution, answer]}")
raise SystemExit(0 if found == expected else 1)
PYTHON
