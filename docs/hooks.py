"""Pages that the site makes from other files: the README, the changelog, and the tutorials, which are scripts.

Links between documents are written as they work in a copy of the repository; here they are changed to those of the
site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LICENSE = "LICENSE"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made from files outside `docs`, or from scripts."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=site_links((ROOT / name).read_text(encoding="utf-8"))))
    files.append(File.generated(config, LICENSE, abs_src_path=str(ROOT / LICENSE)))
    for path in sorted((ROOT / "examples").glob("*.py")):
        files.append(File.generated(config, f"examples/{path.name}", abs_src_path=str(path)))
    for path in sorted((ROOT / "docs" / "tutorials").glob("*.py")):
        content = page_of_script(path.read_text(encoding="utf-8"), path.name)
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Change the links of a page."""
    if page.file.src_uri.startswith("tutorials/"):
        return re.sub(r"\]\(([a-z]+)\.py\)", r"](\1.md)", markdown).replace("](../../examples/", "](../examples/")
    return re.sub(r"\]\(tutorials/([a-z]+)\.py\)", r"](tutorials/\1.md)", markdown).replace(
        "](../examples/", "](examples/"
    )


def site_links(text: str) -> str:
    """Change the links of a document in the root of the repository to those of the site."""
    text = text.replace("](docs/", "](")
    for name, page in PAGES.items():
        text = text.replace(f"]({name}", f"]({page}")
    return text


def page_of_script(script: str, name: str) -> str:
    """Convert a script in the percent format to a page: cells of Markdown, and cells of Python.

    >>> print(page_of_script("# %% [markdown]\\n# # Title\\n\\n# %%\\nprint(1)\\n", "x.py"))
    # Title
    <BLANKLINE>
    [Download this page as a script](x.py){ download }
    <BLANKLINE>
    ```python
    print(1)
    ```
    <BLANKLINE>
    """
    parts = []
    for cell in re.split(r"^# %%", script, flags=re.MULTILINE)[1:]:
        kind, _, text = cell.partition("\n")
        if kind.strip() == "[markdown]":
            parts.append(re.sub(r"^# ?", "", text, flags=re.MULTILINE).strip())
        else:
            parts.append(f"```python\n{text.strip()}\n```")
    title, _, rest = parts[0].partition("\n")
    parts[0] = f"{title}\n\n[Download this page as a script]({name}){{ download }}\n\n{rest.strip()}".strip()
    return "\n\n".join(parts) + "\n"
