"""What the pages of benchmarks show is what the stored rows give, and every file of rows can be read.

The pages are executed as `make pages` does; the default set takes two that are quick, the slow one all of them.
"""
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lt_signals.core.rows import read_rows

bench = Path(__file__).parents[1]/'benchmarks'
pytest.importorskip('nbdev', reason='pages are made with nbdev, which a user does not need')
sys.path.insert(0, str(bench))
import pages  # noqa: E402


def differences(names):
    return {p.stem: [(i, now[:300]) for i, _, now in found] for p in pages.chosen(names) if (found := pages.differing(p))}


@pytest.mark.parametrize('file', sorted(bench.glob('*.json')), ids=lambda p: p.stem)
def test_rows_can_be_read(file):
    rows = read_rows(file)
    assert rows and all(r['scores'] for r in rows)


def test_quick_pages_show_what_the_rows_give():
    assert differences(['diffusion', 'predict']) == {}


def test_reference_shows_every_field_registry_and_command_and_what_errors_say():
    "`make pages` was run after the last change of one; entries without a description fail in the page itself."
    found = subprocess.run([sys.executable, bench/'pages.py', '--check', 'fields', 'registries', 'commands', 'faq', 'cite'], # what other tests register is not there
                           capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_reference_shows_every_registry():
    "No registry of the library is left out of the page."
    root = Path(pages.NBS).parent/'lt_signals'
    there = {m[1] for f in root.rglob('*.py') for m in re.finditer(r'^(\w+) = Registry\(', f.read_text(), re.M)}
    page = (pages.REFERENCE/'01_registries.ipynb').read_text()
    assert there and not [k for k in there if f"'{k}'" not in page and f'{k}=' not in page]


@pytest.mark.slow  # a minute or two
def test_every_page_shows_what_the_rows_give():
    assert differences([]) == {}


def test_a_page_that_was_not_made_again_is_found(tmp_path):
    import json
    page = tmp_path/'00_toy.ipynb'
    cell = dict(cell_type='code', execution_count=None, metadata={}, source=['1 + 1'], id='a', outputs=[
        dict(output_type='execute_result', execution_count=None, metadata={}, data={'text/plain': ['3']})])
    page.write_text(json.dumps(dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5)))
    old, pages.PAGES = pages.PAGES, tmp_path
    try: assert pages.differing(page) == [(0, '3', '2')]
    finally: pages.PAGES = old
