"""The labeller loses nothing: killed (`kill -9`) between two labels and opened again; and driven by keys and mouse in a real browser.

The browser part (slow; a short one is in test_explore.py) is skipped where voila, playwright or Chromium is absent (see browser.py).
"""
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from browser import need, page, serve, serve_lab, write_notebook

N = 60


def crops(folder):
    "Crops whose boxes lie in a recording of noise, and the recording."
    import numpy as np
    from lt_signals.views.crops import CropStore
    from lt_signals.views.boxes import make_boxes
    from lt_signals.views.streams import open_streams

    file, t = Path(folder)/'noise.cf32', np.arange(N)/N
    if not file.exists(): np.random.default_rng(0).standard_normal(20000, dtype='f4').tofile(file)
    streams = open_streams(file, sample_rate=1e4)
    boxes = make_boxes(dict(t_start=t, t_stop=t + .01, f_low=t*0 - 100., f_high=100. + t, snr_db=10*t))
    pixels = np.random.default_rng(1).random((N, 16, 16), dtype='f4')
    return CropStore(pixels, meta=boxes.assign(capture=streams[0].name, stream=0)), streams


def label_on(folder, pipe):
    "Label crop after crop, telling each once `label` has returned."
    from lt_signals.apps.labeller import LabelSession
    store, streams = crops(folder)
    session = LabelSession(store, Path(folder)/'labels.csv', streams=streams)
    pipe.send('ready')
    while (i := session.current) is not None:
        session.label(i % 3 == 0)
        if i % 7 == 6:                           # now and then one is taken back and given again
            session.undo()
            session.label(i % 3 == 0)
        pipe.send(i)
    pipe.send('done')


def killed(folder, rng):
    "Label in a process of its own, and kill it; the crops that it told, and whether it came to the end."
    import lt_signals.apps.labeller              # here, so that the process need not
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context('fork').Process(target=label_on, args=(folder, there))
    process.start()
    there.close()
    assert here.poll(120) and here.recv() == 'ready'
    told, end = [], time.monotonic() + rng.uniform(0, .15)
    try:
        while (left := end - time.monotonic()) > 0:
            if here.poll(left): told.append(here.recv())
            if told[-1:] == ['done']: break
    finally: os.kill(process.pid, signal.SIGKILL)
    process.join()
    try:
        while True: told.append(here.recv())     # what it had said before it was killed
    except EOFError: pass
    return [i for i in told if i != 'done'], 'done' in told


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no SIGKILL on this system')
def test_killed_between_labels(tmp_path):
    from lt_signals.apps.labeller import LabelSession
    from lt_signals.views.annotations import read_boxes

    rng, said, rounds, done = random.Random(0), set(), 0, False
    while not done and rounds < 12:
        told, done = killed(tmp_path, rng)
        said, rounds = said | set(told), rounds + 1
        store, streams = crops(tmp_path)
        session = LabelSession(store, tmp_path/'labels.csv', streams=streams)
        held = session.file.numbers
        assert said <= set(held), f'lost: {said - set(held)}'
        assert len(held) <= len(said) + 1, 'more was written than was labelled'
        assert all(y == (i % 3 == 0) for i, y in held.items())
        assert not len(held) or len(read_boxes(tmp_path/'labels')) == len(held)
        said = set(held)
    assert rounds > 1 and len(said) > 5


APP = "explore(crops('.')[0], 'labels.csv', streams=crops('.')[1])"


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(.05)


@pytest.mark.slow # three kernels
@pytest.mark.parametrize('server', [serve, serve_lab])
def test_in_a_browser(tmp_path, server):
    need()
    import pandas as pd

    here = str(Path(__file__).resolve().parent)
    notebook = write_notebook(tmp_path/'app.ipynb', 'import sys', f'sys.path.insert(0, {here!r})',
                              'from test_labeller import crops', 'from lt_signals.apps.explore import explore', APP)

    def rows():
        file = tmp_path/'labels.csv'
        return list(pd.read_csv(file)[['crop', 'label']].itertuples(index=False, name=None)) if file.exists() else []

    with server(notebook) as url:
        with page(url, ready='.lts-is-main') as tab:
            picture = lambda: tab.locator('.lts-is-main').get_attribute('src')
            told = lambda: tab.inner_text('.lts-told')
            tab.wait_for_function("document.querySelector('.lts-is-main').naturalWidth > 300")
            first = picture()
            tab.keyboard.type('s')                           # nothing was clicked before
            wait_for(lambda: rows() == [(0, 'signal')])
            wait_for(lambda: picture() != first)
            tab.keyboard.type('nn s')                        # fast, with a skip
            wait_for(lambda: rows() == [(0, 'signal'), (1, 'noise'), (2, 'noise'), (4, 'signal')])
            tab.keyboard.press('Backspace')
            wait_for(lambda: rows() == [(0, 'signal'), (1, 'noise'), (2, 'noise')])
            for name in ('noise (n)', 'signal (s)', 'skip (space)', 'undo (backspace)'): # none of them is cut
                b = tab.get_by_role('button', name=name)
                assert b.evaluate('e => e.scrollWidth <= e.clientWidth + 1 && e.scrollHeight <= e.clientHeight + 1'), name
            tab.get_by_role('button', name='noise (n)').click()
            wait_for(lambda: rows()[3:] == [(4, 'noise')])
            tab.get_by_role('button', name='undo').click()
            wait_for(lambda: len(rows()) == 3)
            tab.keyboard.type('s')                           # keys go on after a button
            wait_for(lambda: rows()[3:] == [(4, 'signal')])
            wait_for(lambda: f'4 of {N} labelled: 2 noise, 2 signal' in told())
            if folder := os.environ.get('LTS_SCREENSHOTS'): tab.screenshot(path=f'{folder}/labels_{server.__name__}.png')
        with page(url, ready='.lts-is-main') as tab:         # another kernel goes on where this one was left
            tab.wait_for_function("document.querySelector('.lts-is-main').naturalWidth > 300")
            assert f'4 of {N} labelled' in tab.inner_text('.lts-told')
            tab.keyboard.type('n')
            wait_for(lambda: rows()[4:] == [(3, 'noise')])
    assert (tmp_path/'labels/noise_cf32.sigmf-meta').exists()
