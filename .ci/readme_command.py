"""Print the one command line under a heading of README.md: `readme_command.py "Test it"`.

README is the only place where the commands stand; CI and the tests take them from there.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def readme_command(heading: str, readme: str) -> str:
    """The command line in the only fenced block of the section `## heading`."""
    sections = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", readme, re.M | re.S)
    if len(sections) != 1:
        raise ValueError(f"README has {len(sections)} headings '## {heading}', not one")
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```$", sections[0], re.M | re.S)
    if len(blocks) != 1:
        raise ValueError(f"'## {heading}' of README has {len(blocks)} fenced blocks, not one")
    lines = blocks[0].strip().splitlines()
    if len(lines) != 1:
        raise ValueError(f"the block of '## {heading}' in README holds {len(lines)} lines, not one")
    return lines[0]


if __name__ == "__main__":
    print(readme_command(sys.argv[1], README.read_text()))
