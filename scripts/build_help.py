"""Write the root help page, so that `pellucid --help` need not load the command-line library.

python scripts/build_help.py
"""

from __future__ import annotations

from pellucid.cli.main import HELP, render_help

if __name__ == "__main__":
    HELP.write_text(render_help(), encoding="utf-8")
    print(f"wrote {HELP.name}")
