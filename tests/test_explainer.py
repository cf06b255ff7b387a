"""The explainer (slow): on a run of every task; and in a browser: voila serves it on a run, Chromium moves its controls, and what
is shown changes. A short test of it in a browser is in test_explore.py.
"""
import os
import re

import pytest

from browser import need, page, serve, write_notebook

NARROW = dict(layers=[1, 1, 1, 1], channels=[8, 16, 16, 32], zero_init_last=False)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A small run for modulation and SNR on images."
    need()
    from lt_signals.runs.experiment import run_experiment
    return run_experiment({
        'task': 'amc', 'out_dir': str(tmp_path_factory.mktemp('runs')), 'exp_name': 'explored', 'device': 'cpu',
        'amc.mods': ['BPSK', 'QPSK', '16QAM'], 'amc.snr_list': [4, 10, 16], 'amc.n_per': 60, 'amc.length': 192,
        'model.name': 'resnet18', 'model.options': dict(image_size=32, backbone_options=NARROW), 'data.batch_size': 24,
        'training.epochs': 6, 'training.lr': 1e-2, 'visualization.enabled': False, 'progress': False})


def state(tab):
    "The picture, the words and the numbers of all bars."
    return dict(image=tab.get_attribute('.lts-image', 'src'), words=tab.inner_text('.lts-words'),
                bars=' '.join(tab.locator('.lts-bars').all_inner_texts()))


def after(tab, act, *changed):
    "The state after `act`, once all of `changed` are different."
    old = state(tab)
    act()
    for _ in range(200):
        new = state(tab)
        if all(new[k] != old[k] for k in changed): return new
        tab.wait_for_timeout(100)
    raise AssertionError(f'{changed} did not all change: {new["words"]!r}')


def until(tab, pattern):
    "Wait until the words match a regular expression; the words."
    tab.wait_for_function("p => new RegExp(p).test(document.querySelector('.lts-words')?.innerText)", arg=pattern)
    return tab.inner_text('.lts-words')


def predicted(words):
    "The class that the modulation head names now."
    return re.findall(r'(\w+) \(\d+ %\)', words.split('modulation:')[1].split('snr:')[0])[-1]


@pytest.mark.slow # a training, a kernel and a browser
def test_explainer_in_a_browser(run, tmp_path):
    start = "import warnings; warnings.simplefilter('ignore')\nfrom lt_signals.apps.explainer import Explainer"
    notebook = write_notebook(tmp_path/'explainer.ipynb', start, f'Explainer({str(run.path)!r}, percent=0)')
    with serve(notebook) as url, page(url, ready='.lts-bars') as tab:
        def choose(label, text): tab.locator('.widget-dropdown', has_text=label).locator('select').select_option(text)
        def press(key, times=1):
            tab.focus('.lts-removed .noUi-handle')
            for _ in range(times): tab.keyboard.press(key)

        tab.wait_for_function("document.querySelector('.lts-image').naturalWidth > 300")
        until(tab, 'Nothing is removed')

        one = after(tab, lambda: press('ArrowRight'), 'image', 'words', 'bars')  # picture and prediction change
        count, there = map(int, re.search(r'Without the brightest (\d+) of (\d+) pixels', one['words']).groups())
        press('ArrowRight', 4)
        assert count == round(.01*there)
        until(tab, f'brightest {round(.05*there)} of {there} pixels')

        press('End')  # all pixels: one answer for all samples
        empty = predicted(until(tab, f'brightest {there} of {there} pixels'))
        other = next(m for m in ('BPSK', 'QPSK', '16QAM') if m != empty)
        choose('modulation', other)
        assert predicted(until(tab, rf'modulation:[^:]*wrong \(it is {other}\)')) == empty
        after(tab, lambda: press('Home'), 'image', 'words', 'bars')
        until(tab, 'Nothing is removed')

        press('PageUp', 2)
        until(tab, 'the brightest')
        choose('large is', 'integrated gradients')
        until(tab, 'integrated gradients of the modulation puts first')
        after(tab, lambda: tab.get_by_role('button', name='snr').click(), 'image', 'words')
        until(tab, 'integrated gradients of the snr puts first')
        after(tab, lambda: tab.get_by_role('button', name='smallest first').click(), 'image', 'words')
        until(tab, 'integrated gradients of the snr puts last')
        if shot := os.environ.get('LTS_SCREENSHOT'): tab.screenshot(path=shot, full_page=True)


RUNS = {
    'emitter': {'synth.n_classes': 4, 'synth.n_max': 30, 'synth.n_valid': 6, 'synth.n_test': 8,
                'model.name': 'ResNet1D', 'model.options': dict(depth=2, width=8)},
    'amc': {'amc.mods': ['BPSK', 'QPSK'], 'amc.snr_list': [4, 16], 'amc.n_per': 20, 'amc.length': 192,
            'model.name': 'resnet18', 'model.options': dict(image_size=32, backbone_options=NARROW)},
    'detection': {'detection.scenes': 2},
    'defects': {'defects.n': 40, 'defects.height': 32, 'defects.width': 96, 'model.name': 'resnet10_cbam'}}


@pytest.mark.slow # four trainings
@pytest.mark.parametrize('task', RUNS)
def test_every_task(task, tmp_path):
    from lt_signals.apps.explainer import Explainer
    from lt_signals.apps.explore import explore
    from lt_signals.runs.experiment import run_experiment

    run = run_experiment({'task': task, 'out_dir': str(tmp_path), 'exp_name': task, 'device': 'cpu', 'training.epochs': 1,
                          'visualization.enabled': False, 'progress': False, **RUNS[task]})
    x = Explainer(run.path, percent=0)
    assert 'The network says' in x.words.value
    x.removed.value = x.removed.max//2
    assert 'Without' in x.words.value and x.explanation.gone > 0
    for score in x.score.options:
        x.score.value = score[1]
        assert x.words.value
    for k, w in x.filters.items():
        w.value = 0
        w.value = 'any'
    e = explore(run.path)
    e.errors.value = True
    assert not e.samples.table.right.iloc[e.rows].any()
