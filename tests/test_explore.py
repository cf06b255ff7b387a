"""The explorer in a browser: real wheel, mouse and keys, in voila and in JupyterLab.

By default one page of voila with the three widgets, a few steps each; with `-m slow` a recording of 100 MB in both, opened,
scrolled, marked, named, saved, opened again. Times of steps are printed (`pytest -s`), not asserted.
"""
import os
import time

import pytest

from browser import need, page, serve, serve_lab, write_notebook

RATE = 1e6
QUIET = "import warnings; warnings.simplefilter('ignore')"


def write_recording(file, n):
    "A sparse file of 16-bit I/Q: silence, and eight bursts of a tone in noise, 20 ms each."
    import numpy as np

    rng = np.random.default_rng(0)
    with open(file, 'wb') as f:
        f.truncate(4*n)
        for k in range(8):
            z = 8000*np.exp(2j*np.pi*(.05*k - .2)*np.arange(20000)) + rng.normal(0, 500, (20000, 2)) @ [1, 1j]
            f.seek(4*(n*(k + 1)//10))
            np.stack([z.real, z.imag], 1).round().astype('<i2').tofile(f)
    return file


def detections(n):
    "Where the bursts are, as lts_detect would tell."
    start = [n*(k + 1)//10/RATE for k in range(8)]
    f = [(.05*k - .2)*RATE for k in range(8)]
    return dict(t_start=start, t_stop=[t + .02 for t in start], f_low=[v - 2e4 for v in f], f_high=[v + 2e4 for v in f])


class Steps:
    "Acts in a browser, each with the time until its effect is seen."
    def __init__(self, tab): self.tab, self.times = tab, []

    def __call__(self, name, act, seen, *args):
        start = time.perf_counter()
        act()
        self.tab.wait_for_function(seen, arg=list(args))
        self.times.append((name, time.perf_counter() - start))

    def tell(self, where):
        print(f'\n{where}: ' + ', '.join(f'{name} {t:.2f} s' for name, t in self.times))


def shot(tab, name):
    if folder := os.environ.get('LTS_SCREENSHOTS'): tab.screenshot(path=f'{folder}/{name}.png', full_page=True)


SRC = "a => document.querySelector(a[0]).src != a[1] && document.querySelector(a[0]).naturalWidth > 300"
TOLD = "a => document.querySelector(a[0]).innerText.replaceAll('\\u00a0', ' ').includes(a[1])"


def src(tab, of='.lts-is-main'): return tab.get_attribute(of, 'src')


def place(tab, x, y, of='.lts-is-main'):
    "A place in a picture, in pixels of the page."
    box = tab.locator(of).bounding_box()
    return box['x'] + x*box['width'], box['y'] + y*box['height']


def drive(tab, where, saved):
    "Scroll, zoom, jump, mark, name and save."
    step, main = Steps(tab), '.lts-is-main'
    tab.locator(main).scroll_into_view_if_needed()
    tab.wait_for_function("document.querySelector('.lts-is-main').naturalWidth > 300")
    assert tab.locator('.lts-list option').count() == 8
    shot(tab, f'{where}_whole')

    step('jump', lambda: tab.keyboard.press('n'), SRC, main, src(tab))         # nothing was clicked before
    tab.wait_for_function("document.querySelector('.lts-list').querySelector('select').selectedIndex == 0")
    shot(tab, f'{where}_box')
    step('next', lambda: tab.keyboard.press('n'), SRC, main, src(tab))
    step('scroll', lambda: tab.keyboard.press('ArrowRight'), SRC, main, src(tab))
    step('scroll back', lambda: tab.keyboard.press('ArrowLeft'), SRC, main, src(tab))
    tab.mouse.move(*place(tab, .5, .5))
    step('wheel', lambda: tab.mouse.wheel(0, -200), SRC, main, src(tab))
    step('wheel back', lambda: tab.mouse.wheel(0, 200), SRC, main, src(tab))

    def drag():
        tab.mouse.move(*place(tab, .2, .2))
        tab.mouse.down()
        tab.mouse.move(*place(tab, .25, .3), steps=4)
        tab.mouse.move(*place(tab, .3, .4))
        tab.mouse.up()
    step('mark', drag, TOLD, '.lts-told', 'marked')
    tab.wait_for_function("document.querySelectorAll('.lts-list option').length == 9")

    def name():
        tab.locator('.lts-label input').fill('ship "A", <b>')
        tab.locator('.lts-label input').press('Enter')
    step('name', name, TOLD, '.lts-told', 'named ship "A", <b>')
    tab.keyboard.press('n')
    step('relabel', lambda: tab.keyboard.press('1'), TOLD, '.lts-list', 'ship "A", <b> · detection')
    step('save', lambda: tab.keyboard.press('s'), TOLD, '.lts-told', '9 boxes saved')
    shot(tab, f'{where}_saved')
    assert saved.exists()
    step.tell(where)


@pytest.mark.slow # a kernel and a browser each, a minute
@pytest.mark.parametrize('server', [serve, serve_lab])
def test_long_recording(tmp_path, server):
    need()
    n = 25_000_000
    file = write_recording(tmp_path/'long.cs16', n)
    open_it = f"explore('long.cs16', 'marks.csv', boxes={detections(n)!r}, sample_rate={RATE})"
    notebook = write_notebook(tmp_path/'app.ipynb', QUIET, 'from lt_signals.apps.explore import explore', open_it)
    where = 'voila' if server is serve else 'lab'
    with server(notebook) as url:
        with page(url, ready='.lts-is-main') as tab: drive(tab, where, tmp_path/'marks/long_cs16.sigmf-meta')
        with page(url, ready='.lts-is-main') as tab:                             # another kernel, the same marks
            tab.wait_for_function(TOLD, arg=['.lts-list', 'ship "A", <b> · mark'])
            assert tab.inner_text('.lts-list').replace('\xa0', ' ').count('ship "A", <b>') == 2
    assert file.stat().st_blocks*512 < 2**21                                     # nothing has filled the file


THREE = '''
import numpy as np
from lt_signals.apps.explainer import Explainer
from lt_signals.apps.explore import explore
from lt_signals.io.signal_store import SignalStore
from lt_signals.models.base import create_model
rng = np.random.default_rng(0)
store = SignalStore.from_arrays(rng.normal(size=(40, 2, 128)).astype('f4'), np.arange(40) % 2, classes=['gull', 'tern'],
                                meta=dict(snr_db=np.arange(40.)))
'''


def test_three_widgets_in_voila(tmp_path):
    "A recording, a store that is labelled, and an explanation on one page: a few steps each."
    need()
    import pandas as pd

    n = 250_000
    write_recording(tmp_path/'short.cs16', n)
    cells = (f"explore('short.cs16', 'marks.csv', boxes={detections(n)!r}, sample_rate={RATE})",
             "explore(store, 'labels.csv')", "Explainer(create_model('ResNet1D', 2, depth=2, width=4), store, percent=0)")
    with serve(write_notebook(tmp_path/'app.ipynb', QUIET, THREE, *cells)) as url, page(url, ready='.lts-bars') as tab:
        one, two = (tab.locator('.lts-explore').nth(k) for k in (0, 1))
        step, main = Steps(tab), '.lts-explore .lts-is-main'
        tab.wait_for_function(SRC, arg=[main, ''])
        tab.mouse.move(*place(tab, .5, .5, main + ' >> nth=0'))                  # the pointer says which widget is meant
        step('jump', lambda: tab.keyboard.press('n'), SRC, main, src(tab, main + ' >> nth=0'))
        step('wheel', lambda: tab.mouse.wheel(0, -100), SRC, main, src(tab, main + ' >> nth=0'))
        shot(tab, 'three')

        two.scroll_into_view_if_needed()
        two.locator('.lts-is-main').hover()
        tab.keyboard.type('gt g')                                               # fast, with a skip
        tab.wait_for_function("document.querySelectorAll('.lts-told')[1].innerText.includes('3 of 40 labelled: 2 gull, 1 tern')")
        tab.keyboard.press('Backspace')
        tab.wait_for_function("document.querySelectorAll('.lts-told')[1].innerText.includes('2 of 40 labelled')")
        two.get_by_role('button', name='tern (t)').click()
        tab.wait_for_function("document.querySelectorAll('.lts-told')[1].innerText.includes('3 of 40 labelled: 1 gull, 2 tern')")
        assert pd.read_csv(tmp_path/'labels.csv')['crop'].tolist() == [0, 1, 3]
        assert 'labelled' not in one.inner_text()

        tab.focus('.lts-removed .noUi-handle')
        tab.keyboard.press('ArrowRight')
        tab.wait_for_function("/strongest 1 of 32 time windows/.test(document.querySelector('.lts-words').innerText)")
        tab.keyboard.press('ArrowRight')
        tab.wait_for_function("/strongest 2 of 32 time windows/.test(document.querySelector('.lts-words').innerText)")
        step.tell('voila, three widgets')


@pytest.mark.slow # trains a run; a kernel and a browser each
@pytest.mark.parametrize('server', [serve, serve_lab])
def test_from_a_sample_to_its_explanation(tmp_path, server):
    "The worst sample of a run, the next one, and the explanation of each, by keys alone."
    need()
    from lt_signals.runs.experiment import run_experiment

    run = run_experiment(out_dir=str(tmp_path/'runs'), exp_name='small', progress=False, device='cpu', training=dict(epochs=1),
                         stage2=dict(enabled=False), visualization=dict(enabled=False),
                         synth=dict(n_classes=4, n_max=30, n_valid=6, n_test=8), model=dict(name='ResNet1D', options=dict(depth=2, width=8)))
    open_it = f'explore({str(run.path)!r})'
    notebook = write_notebook(tmp_path/'app.ipynb', QUIET, 'from lt_signals.apps.explore import explore', open_it)
    with server(notebook) as url, page(url, ready='.lts-is-main') as tab:
        step, main = Steps(tab), '.lts-is-main'
        tab.wait_for_function(SRC, arg=[main, ''])
        step('explain', lambda: tab.keyboard.press('e'), 'document.querySelector(".lts-bars") != null')
        words = tab.inner_text('.lts-words')
        step('next sample', lambda: tab.keyboard.press('ArrowRight'), SRC, main, src(tab))
        step('explain the next', lambda: tab.keyboard.press('e'), 'a => document.querySelector(".lts-words").innerText != a[0]', words)
        shot(tab, f'explained_{"voila" if server is serve else "lab"}')
        step.tell('voila' if server is serve else 'lab')
