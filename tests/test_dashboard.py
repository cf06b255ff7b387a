"""The dashboard in a browser, over thirty stored runs: filter, sort, open, click into the confusion matrix, move the dial, compare.

The time of each step is printed (`pytest -s`), not asserted; an error in the console fails.
"""
import json
import os
import random
import re
import shutil
import time
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pytest

from browser import need, page, serve, serve_lab, write_notebook

LOSSES = ['CrossEntropy', 'Focal', 'LDAM', 'LogitAdjustment', 'BalancedSoftmax']


def vary(run, folder, i, rng):
    "A copy of a run with another name, seed and loss, and other scores."
    copy = folder/f'copy{i:02}_20260101_{i:06}'
    shutil.copytree(run, copy)
    loss, seed = LOSSES[i % len(LOSSES)], i//len(LOSSES)
    for file in (copy/'config.json', copy/'results'/'results.json'):
        d = json.loads(file.read_text())
        d['seed'] = seed
        if 'stages' in d and d.get('summary'):
            d['name'], d['loss'] = f'copy{i:02}', loss
            for s in d['stages']:
                o = (s.get('test') or {}).get('overall') or {}
                for k in ('accuracy', 'balanced_accuracy', 'macro_f1'): o[k] = rng.uniform(.3, .9)
        else: d['exp_name'], d['loss'] = f'copy{i:02}', d['loss'] | dict(name=loss)
        file.write_text(json.dumps(d))
    return copy


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    "Thirty stored runs, one under way, and a folder that cannot be read."
    need()
    from lt_signals.runs.experiment import run_experiment
    folder = tmp_path_factory.mktemp('board')/'experiments'
    run = run_experiment({
        'out_dir': str(folder), 'exp_name': 'first', 'device': 'cpu', 'seed': 3, 'data.seed': 3, 'training.epochs': 3, 'stage2.enabled': False,
        'synth.n_classes': 8, 'synth.n_max': 30, 'synth.imbalance_ratio': 10., 'synth.n_valid': 6, 'synth.n_test': 12,
        'openset.score': 'knn', 'openset.n_unknown': 2, 'model.name': 'ResNet1D', 'model.options': dict(depth=2, width=8),
        'visualization.enabled': False, 'progress': False}).path
    rng = random.Random(0)
    for i in range(29): vary(run, folder, i, rng)
    now = vary(run, folder, 99, rng)
    (now/'results'/'results.json').unlink()
    (folder/'broken_20260102_000000').mkdir()
    (folder/'broken_20260102_000000'/'config.json').write_text('no JSON <script>alert(1)</script>')
    return folder


@contextmanager
def step(name, times):
    "Note how long a step takes."
    begun = time.perf_counter()
    yield
    times[name] = time.perf_counter() - begun


def shown(tab): return tab.locator('.lts-board .lts-pages').inner_text()


def until(tab, text, where='.lts-board'):
    "Wait until some text is there."
    tab.wait_for_function("([w, t]) => [...document.querySelectorAll(w)].some(e => e.innerText.includes(t))", arg=[where, text])


def choose(tab, label, text):
    tab.locator('.lts-filters .widget-dropdown', has_text=label).first.locator('select').select_option(text)


def click_at(tab, image, x, y):
    "Click at a share of an image's width and height."
    box = image.bounding_box()
    tab.mouse.click(box['x'] + x*box['width'], box['y'] + y*box['height'])


def shot(tab, name):
    if folder := os.environ.get('LTS_SCREENSHOT'): tab.screenshot(path=f'{folder}/dashboard_{name}.png', full_page=True)


def drive(tab, folder, times):
    "What a researcher does, step by step."
    until(tab, 'of 31')
    until(tab, '31 runs.')
    assert '1 left out' in tab.inner_text('.lts-skipped') and not tab.query_selector('.lts-skipped script')
    shot(tab, 'table')
    with step('filter by loss', times):
        choose(tab, 'loss', 'Focal')
        until(tab, '1–6 of 6', '.lts-pages')
    with step('all again', times):
        choose(tab, 'loss', 'all')
        until(tab, '1–15 of 31', '.lts-pages')
    with step('sort by OA', times):
        tab.locator('th .lts-click', has_text='OA').first.click()
        until(tab, 'OA ▾', 'th')
    with step('next page', times):
        tab.locator('.lts-pages .lts-button', has_text='›').click()
        until(tab, '16–30 of 31', '.lts-pages')
    tab.locator('.lts-pages .lts-button', has_text='‹').click()
    until(tab, '1–15 of 31', '.lts-pages')
    row = lambda name: tab.locator('.lts-table tbody tr', has_text=name)
    name = tab.locator('.lts-table tbody tr td:nth-child(2)').first.inner_text()
    with step('open a run', times):
        row(name).locator('.lts-button', has_text='open').click()
        until(tab, name, '.lts-title')
        tab.wait_for_function("document.querySelectorAll('.lts-figure').length >= 4")
    shot(tab, 'run')
    with step('confusion matrix', times):
        tab.get_by_role('button', name='confusion', exact=True).click()
        until(tab, 'Click a cell')
        tab.wait_for_function("document.querySelector('img.lts-figure[alt^=confusion]')?.naturalWidth > 100")
    image = tab.locator('img.lts-figure[alt^=confusion]')
    image.scroll_into_view_if_needed()
    from lt_signals.apps.run_view import Matrix
    from lt_signals.runs.answers import RunAnswers
    a = RunAnswers(folder/name)
    fig, n = Matrix(a, a.targets[0]).fig, a.confusion()
    fig.savefig(os.devnull, format='png')  # lays it out
    true, predicted = n.stack().idxmax()
    at = fig.axes[0].transData.transform((list(n.columns).index(predicted), list(n.index).index(true)))
    with step('click a cell (opens the data)', times):
        click_at(tab, image, at[0]/fig.bbox.width, 1 - at[1]/fig.bbox.height)
        until(tab, f'{true} taken for {predicted}: {n.loc[true, predicted]}', '.lts-cell')
    tab.wait_for_function("document.querySelector('img.lts-figure[alt^=samples]')?.naturalWidth > 100")
    shot(tab, 'confusion')
    cells = n.stack()
    true, predicted = next(k for k in cells[cells > 0].index if k != (true, predicted))
    at = fig.axes[0].transData.transform((list(n.columns).index(predicted), list(n.index).index(true)))
    with step('another cell', times):
        click_at(tab, image, at[0]/fig.bbox.width, 1 - at[1]/fig.bbox.height)
        until(tab, f'{true} taken for {predicted}', '.lts-cell')
    with step('worst errors', times):
        tab.get_by_role('button', name='worst errors').click()
        until(tab, 'errors: ', '.lts-cell')
    shot(tab, 'errors')
    with step('unknown signals', times):
        tab.get_by_role('button', name='unknown signals').click()
        tab.wait_for_selector('.lts-dial .noUi-handle')
        until(tab, 'unknown signals caught')
    head = lambda: tab.inner_text('.lts-rates th:nth-child(3)')
    old = head()
    with step('move the dial', times):
        tab.focus('.lts-dial .noUi-handle')
        tab.keyboard.press('End')
        tab.wait_for_function("old => document.querySelector('.lts-rates th:nth-child(3)').innerText !== old", arg=old)
    tab.wait_for_timeout(500)
    shot(tab, 'dial')
    tab.locator('.lts-filters input').last.fill('copy03')
    tab.keyboard.press('Enter')
    until(tab, '1–1 of 1', '.lts-pages')
    with step('compare two runs (200 draws)', times):
        row('copy03').locator('.lts-button', has_text='vs').click()
        until(tab, 'p (McNemar)')
    shot(tab, 'compare')


def tabs(tab, times):
    "The other tabs."
    def press(name): tab.locator('.lts-tabs .lm-TabBar-tab, .lts-tabs .p-TabBar-tab', has_text=name).first.click()
    with step('registries', times):
        press('what there is')
        until(tab, 'ConvNetADSB', '.lts-offers')
    shot(tab, 'registries')
    with step('form', times):
        press('new run')
        tab.wait_for_selector('.lts-command textarea')
    tab.get_by_placeholder('find a field').fill('training.epochs')
    tab.keyboard.press('Enter')
    name = tab.locator('code', has_text=re.compile('^training.epochs$'))
    box = tab.locator('.widget-hbox', has=name).last.locator('input').first
    box.fill('7')
    box.press('Enter')
    tab.wait_for_function("document.querySelector('.lts-command textarea').value == 'lts_train training.epochs=7'")
    shot(tab, 'form')


def told(times, where):
    print(f'\n{where}:', *(f'{k} {v:.2f} s' for k, v in times.items()), sep='\n  ')


def test_in_voila(runs, tmp_path):
    notebook, times = tmp_path/'dashboard.ipynb', {}
    shutil.copy(files('lt_signals.apps')/'dashboard.ipynb', notebook)
    begun = time.perf_counter()
    with serve(notebook, LTS_DASHBOARD=str(runs)) as url, page(url, ready='.lts-pages') as tab:
        times['load'] = time.perf_counter() - begun
        drive(tab, runs, times)
        tabs(tab, times)
        live(tab, runs, times)
    told(times, 'voila')


def live(tab, folder, times):
    "A run under way goes on, and the page with it."
    now, = folder.glob('copy99*')
    log = now/'logs'/'training.log'
    os.utime(log)
    tab.locator('.lts-filters input').last.fill('copy99')
    tab.keyboard.press('Enter')
    until(tab, '1–1 of 1', '.lts-pages')
    until(tab, 'under way', '.lts-table td')
    tab.locator('.lts-table tbody tr .lts-button', has_text='open').click()
    until(tab, 'under way', '.lts-title')
    picture = lambda: tab.locator('img.lts-figure').first.get_attribute('src')
    tab.wait_for_selector('img.lts-figure')
    old = picture()
    with step('a new epoch is seen', times):
        log.write_text(log.read_text() + '12:00:00 lr 1.00e-03 epoch 0 train_loss 4.0 valid_loss 5.0 time 00:01\n')
        tab.wait_for_function("old => document.querySelector('img.lts-figure')?.src !== old", arg=old)
    shot(tab, 'live')


@pytest.mark.slow
def test_in_jupyterlab(runs, tmp_path):
    times = {}
    notebook = write_notebook(tmp_path/'lab.ipynb', 'import warnings; warnings.simplefilter("ignore")\n'
                              'from lt_signals.apps.board_page import Dashboard', f'Dashboard({str(runs)!r})')
    with serve_lab(notebook) as url, page(url, ready='.lts-pages') as tab: drive(tab, runs, times)
    told(times, 'JupyterLab')


@pytest.mark.slow
def test_the_command_serves(runs):
    import signal
    import subprocess
    import sys
    from urllib.request import urlopen
    from browser import free_port
    port = free_port()
    p = subprocess.Popen([str(Path(sys.executable).parent/'lts_dashboard'), str(runs), f'port={port}', 'browser=false'],
                         start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert str(port) in p.stdout.readline()
        end, text = time.monotonic() + 120, ''
        while not text and time.monotonic() < end:
            try: text = urlopen(f'http://127.0.0.1:{port}/', timeout=120).read().decode()
            except OSError: time.sleep(.3)
        assert 'lts-board' in text or 'voila' in text
    finally: os.killpg(p.pid, signal.SIGTERM)


@pytest.mark.slow
def test_a_thousand_runs_and_a_thousand_classes(runs, tmp_path):
    "How long a thousand runs take to be read, the first view after that, and the views of a run of a thousand classes (printed)."
    from lt_signals.apps.board_page import RunTable
    from lt_signals.apps.run_view import Matrix, RunView
    from lt_signals.runs.answers import RunAnswers
    from lt_signals.runs.board import Board
    from lt_signals.runs.experiment import run_experiment
    times, many = {}, tmp_path/'many'
    stored = [p for p in sorted(runs.glob('copy*')) if (p/'results'/'results.json').exists()]
    for i in range(1000):
        d, source = many/f'run{i:04}_20260102_{i:06}', stored[i % len(stored)]
        (d/'results').mkdir(parents=True)
        for n in ('config.json', 'results/results.json'): os.link(source/n, d/n)
    board = Board(many)
    with step('reading 1,000 runs', times): board.refresh()
    assert len(board) == 1000 and not board.skipped
    with step('looking again', times): board.refresh()
    table = RunTable(board, lambda *_: None)
    with step('first view of 1,000 runs', times):
        table.offer()
        table.draw()
    with step('filter', times): table.filters['loss'].value = 'Focal'
    with step('sort', times): table.pages.picked('sort OA')
    run = run_experiment({
        'out_dir': str(tmp_path), 'exp_name': 'classes', 'device': 'cpu', 'seed': 3, 'training.epochs': 1, 'stage2.enabled': False,
        'synth.n_classes': 1000, 'synth.n_max': 4, 'synth.imbalance_ratio': 4., 'synth.n_valid': 1, 'synth.n_test': 2,
        'data.batch_size': 256, 'model.name': 'ResNet1D', 'model.options': dict(depth=2, width=8), 'visualization.enabled': False,
        'progress': False}).path
    one = Board(run)
    with step('reading a run of 1,000 classes', times): one.refresh()
    view = RunView()
    with step('open it', times): view.open(one.rows[0])
    for k in ('intervals', 'figures', 'confusion', 'worst errors'):
        with step(k, times): view.menu.value = k
    a = RunAnswers(run)
    m = Matrix(a, a.targets[0])
    with step('a cell', times): assert m.at(0, 0) and len(a.cell(*m.at(0, 0))) >= 0
    told(times, 'large')
