"""Pictures of the page of `meco demo`, as the documentation shows it, by a Chromium of this machine.

    python examples/portraits.py && python examples/demo_page.py --output_dir docs/pictures

Whom they show is in the public domain: Eileen Collins (NASA), Grace Hopper (US Navy). Needs Playwright, and `chromium` on the path.
"""

import argparse
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from meco_hub.demo import serve

LARGEST = 200_000
"""Bytes of one picture."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("out/demo"))
    parser.add_argument("--inputs", type=Path, default=Path("out/demo"), help="what examples/portraits.py left")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("There is no Chromium on this machine. Install it: apt-get install chromium")
    page = serve()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1280, "height": 1000})
        tab.goto(page.local_url)

        def answer(name: str, file: Path, until: str) -> None:
            panel = tab.get_by_role("tabpanel").locator("visible=true").first
            panel.locator("input[type=file]").first.set_input_files(file)
            tab.wait_for_timeout(2000)
            panel.get_by_role("button", name="Recognise").click()
            panel.get_by_text(until).first.wait_for(timeout=180_000)
            tab.wait_for_timeout(1500)
            target = arguments.output_dir / name
            tab.screenshot(path=str(target), type="jpeg", quality=70)
            if target.stat().st_size > LARGEST:
                sys.exit(f"{target} has {target.stat().st_size} bytes; expected {LARGEST} at most.")
            print(target, target.stat().st_size)

        answer("demo_face.jpg", arguments.inputs / "portraits" / "astronaut.png", "in doubt about it")
        tab.get_by_role("tab", name="Film").click()
        answer("demo_film.jpg", arguments.inputs / "talk.mp4", "in doubt about it")
        browser.close()
    page.close()


if __name__ == "__main__":
    main()
