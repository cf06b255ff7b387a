"""New classes for finished runs, and weights of runs with other classes: what `adapt_run`, `lts_adapt` and `model.weights` do end to end.

Run: python -m pytest tests/test_adapt.py -q
"""
import contextlib, io, json, os, warnings
from dataclasses import replace

os.environ['MPLBACKEND'] = 'agg'
import numpy as np
import pytest
import torch

from lt_signals.apps.adapt import adapt_command
from lt_signals.core.errors import ConfigError, LTSError
from lt_signals.core.runs import RunFolder
from lt_signals.evaluation.class_means import read_means
from lt_signals.io.signal_store import SignalStore
from lt_signals.models.base import create_model, heads
from lt_signals.models.heads import head_needs_counts
from lt_signals.runs.adapt import adapt_run
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.finished import load_finished
from lt_signals.runs.recognizer import Recognizer
from lt_signals.runs.summarize import summarize
from lt_signals.training.adaptation import trained_head

KNOWN, NEW = ['tone0', 'tone1', 'tone2'], ['tone3', 'tone4']


def tones(n, seed=0, length=64):
    "Noisy tones of five frequencies, n each: signals and names."
    rng = np.random.default_rng(seed)
    k = np.repeat([0, 1, 2, 4, 5], n)
    z = np.exp(2j*np.pi*(rng.random(5*n)[:, None] + (.04 + .07*k)[:, None]*np.arange(length)))
    z += .2*(rng.normal(size=z.shape) + 1j*rng.normal(size=z.shape))
    return np.stack([z.real, z.imag], 1).astype(np.float32), np.repeat([f'tone{i}' for i in range(5)], n)


def some(names, n=20, seed=1, **kwargs):
    "A store of the tones of some names."
    x, y = tones(n, seed)
    at = np.isin(y, names)
    return SignalStore.from_arrays(x[at], [names.index(v) for v in y[at]], classes=list(names), **kwargs)


def settings(folder, file, **more):
    return {'data.path': str(file), 'out_dir': str(folder), 'exp_name': 'three', 'progress': False, 'device': 'cpu',
            'model.name': 'ResNet1D', 'model.options': dict(depth=2, width=8), 'training.epochs': 15, 'training.lr': 1e-2,
            'data.batch_size': 16, 'visualization.enabled': False, 'stage2.enabled': False, 'stage3.mode': 'temperature', **more}


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    "Folder, and a finished run that knows three tones."
    folder = tmp_path_factory.mktemp('adapt')
    x, y = tones(40)
    at = np.isin(y, KNOWN)
    np.savez(folder/'old.npz', X=x[at], y=y[at])
    np.savez(folder/'all.npz', X=x, y=y)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return folder, run_experiment(settings(folder, folder/'old.npz'))


def adapted(base, *args, **kwargs):
    folder, run = base
    return adapt_run(run.path, *args, **dict(out_dir=folder, progress=False, epochs=6, device='cpu') | kwargs)


def said(run): return json.loads(run.results.read_text())['adapted']


def test_head_learns_new_and_keeps_old(base):
    run = adapted(base, some(NEW), 5, 'head')
    a = said(run)
    assert a['new_classes'] == NEW and a['new']['before'] == 0
    assert a['new']['after'] > .6 and a['old']['after'] > .6, (a['new'], a['old'])
    old, new = (load_finished(r.path, 'cpu').model.backbone.state_dict() for r in (base[1], run))
    for k in old: assert torch.equal(old[k], new[k])


def test_same_seed_same_run(base):
    a, b, c = (load_finished(adapted(base, some(NEW), 2, 'full', epochs=1, seed=s).path, 'cpu').model for s in (1, 1, 2))
    assert all(torch.equal(v, w) for v, w in zip(a.state_dict().values(), b.state_dict().values()))
    assert not torch.equal(a.head.weight, c.head.weight)


def test_adapted_run_is_a_run_like_any_other(base):
    run = adapted(base, some(NEW), 5, 'means')
    r, new = Recognizer.from_run(run.path, 'cpu'), some(NEW, seed=7)
    table = r.predict(new)
    right = (table['class'] == np.array(new.classes)[new.labels]).mean()
    assert r.classes == KNOWN + NEW and right > .5
    assert (RunFolder(run.path).recipe).is_file() and r.recipe.class_counts[-2:] == [5, 5]
    assert 'means' in summarize(run.path).to_markdown()


def test_adapted_again_without_any_old_data(base):
    folder, _ = base
    first = adapted(base, some(NEW[:1]), 5, 'means')
    second = adapt_run(first.path, some(NEW[1:]), 5, 'means', out_dir=folder, progress=False, device='cpu')
    assert load_finished(second.path, 'cpu').classes == KNOWN + NEW
    assert said(second)['old']['n'] == 0 and 'not measured' in second.summary.read_text()
    m = read_means(second.checkpoints/'means.safetensors')
    assert m.classes == KNOWN + NEW and m.counts[-2:].tolist() == [5, 5]


def test_known_classes_are_more_examples(base):
    run = adapted(base, some(['tone2', 'tone3']), 4, 'means')
    r = load_finished(run.path, 'cpu')
    assert r.classes == [*KNOWN, 'tone3'] and said(run)['new_classes'] == ['tone3']
    before = load_finished(base[1].path, 'cpu').recipe.class_counts
    assert r.recipe.class_counts == [*before[:2], before[2] + 4, 4]


def test_replay_and_given_old_signals(base):
    a = said(adapted(base, some(NEW), 5, 'head', replay=True))
    assert a['replay'] and a['old']['after'] > .6 and a['new']['after'] > .6, (a['new'], a['old'])
    b = said(adapted(base, some(NEW), 1, 'means', old=some(KNOWN, 10, seed=9)))
    assert b['old']['n'] == 30
    with pytest.raises(LTSError, match='which the run does not know'): adapted(base, some(NEW), 1, 'means', old=some(NEW))


@pytest.mark.parametrize('head', heads)
def test_every_head_says_the_same_as_its_equivalent(head):
    counts = dict(class_counts=[50, 9, 2]) if head_needs_counts(head) else {}
    model = create_model('ResNet1D', 3, depth=2, width=4, head=head, **counts).eval()
    if heads.info[head].get('fixed'):
        with pytest.raises(LTSError, match='no row for each class'): trained_head(model)
        return
    f = torch.randn(5, model.num_features)
    assert torch.allclose(trained_head(model)(f), model.head(f), atol=1e-5)


def test_runs_that_cannot_be_adapted_say_so(base):
    finished = load_finished(base[1].path, 'cpu')
    for task in ('amc', 'defects', 'detection'):
        with pytest.raises(ConfigError, match=f'cannot be added to a run of task {task}'):
            adapt_run(replace(finished, recipe=replace(finished.recipe, task=task)), some(NEW), 1)


def test_mistakes_are_one_line(base):
    for store, said in ((SignalStore.from_arrays(torch.randn(9, 1, 64), [0]*9, classes=['a'], layout='nct'), '1 channels'),
                        (SignalStore.from_arrays(torch.randn(9, 2, 32), [0]*9, classes=['a']), '32 samples'),
                        (some(NEW, 3), 'examples that may be trained on')):
        with pytest.raises(LTSError, match=said) as e: adapted(base, store, 5, 'means')
        assert '\n' not in str(e.value)


def test_command(base, tmp_path, capsys):
    folder, run = base
    for name in NEW:
        (tmp_path/'new'/name).mkdir(parents=True)
        x, y = tones(20, 3)
        np.save(tmp_path/'new'/name/'a.npy', x[y == name][:10])
        np.save(tmp_path/'new'/name/'b.npy', x[y == name][10:])
    args = [str(run.path), f'data.path={tmp_path}/new', 'shots=5', 'method=means', f'out_dir={tmp_path}/out', 'exp_name=five', 'device=cpu']
    assert adapt_command(args) == 0, capsys.readouterr().err
    out = RunFolder.latest(tmp_path/'out', 'five')
    assert load_finished(out.path, 'cpu').classes == KNOWN + NEW
    assert '2 classes added to three by means from 5 examples each' in out.summary.read_text()
    assert adapt_command([*args[:2], 'shots=99', *args[3:]]) == 1
    err = capsys.readouterr().err
    assert 'lts_adapt: `shots` (99)' in err and err.strip().count('\n') == 0


def test_weights_of_a_run_with_other_classes(base):
    folder, run = base
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        again = run_experiment(settings(folder, folder/'all.npz', **{'model.weights': str(run.path), 'training.epochs': 1,
                                                                    'exp_name': 'all', 'stage3.mode': 'none'}))
    text = ' '.join(str(w.message) for w in told)
    assert "3 of 5 classes are taken (tone0, tone1, tone2), anew: tone3, tone4" in text, text
    assert load_finished(again.path, 'cpu').classes == KNOWN + NEW
    with pytest.raises(LTSError, match='weights of another model'):
        run_experiment(settings(folder, folder/'all.npz', **{'model.weights': str(run.path), 'model.options': dict(depth=2, width=4)}))
