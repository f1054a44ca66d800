"""Record today's signatures and outputs: `python tests/golden`, from the repository's root."""

from recorded import record

if __name__ == "__main__":
    changed = record()
    print(
        "changed: " + ", ".join(changed) + "; look at the difference before it is committed"
        if changed
        else "nothing changed"
    )
