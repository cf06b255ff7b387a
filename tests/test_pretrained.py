"""Networks that are passed on: the folder of `save_pretrained`, what it refuses, moved runs, models of the user's own, and `lts_verify`.

Nothing in a folder of somebody else is executed or fetched: damaged and hostile files are refused in one line.
"""
import json, shutil, subprocess, sys, types
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lt_signals.core.errors import LTSError
from lt_signals.core.runs import RunFolder
from lt_signals.evaluation.stored import read_predictions
from lt_signals.runs import card
from lt_signals.runs.collect import collect_runs
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.finished import load_finished
from lt_signals.runs.pretrained import find_pretrained, load_pretrained, save_pretrained, shared_names
from lt_signals.runs.results import load_model, load_run, open_run
from lt_signals.runs.summarize import summarize
from lt_signals.runs.verify import report_text, verify

from test_fuzz_readers import mutant
from test_fuzz_runs import attempt, damaged_json, fuzz

pytestmark = pytest.mark.filterwarnings('ignore')

tiny = dict(exp_name='small', seed=3, progress=False, device='cpu', training=dict(epochs=1), stage2=dict(enabled=False), openset=dict(score='knn', n_unknown=1),
            synth=dict(n_classes=5, n_max=16, imbalance_ratio=4., n_valid=4, n_test=5), data=dict(batch_size=32),
            model=dict(name='ResNet1D', options=dict(depth=2, width=4)), visualization=dict(enabled=False))


@pytest.fixture(scope='module', autouse=True)
def few_draws():
    "Rough intervals: cards are made many times here."
    with pytest.MonkeyPatch.context() as m:
        m.setattr(card, 'bootstrap', partial(card.bootstrap, draws=10))
        yield

@pytest.fixture(scope='module')
def run(tmp_path_factory): return run_experiment(tiny, out_dir=str(tmp_path_factory.mktemp('runs')))

@pytest.fixture(scope='module')
def shared(run, tmp_path_factory): return save_pretrained(load_finished(run.path, 'cpu'), tmp_path_factory.mktemp('shared')/'small', license='apache-2.0')


def test_the_same_answers(run, shared):
    a, b = load_finished(run.path, 'cpu'), load_pretrained(shared, 'cpu')
    x = torch.randn(3, *a.recipe.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(a.outputs(x), b.outputs(x))
    assert sorted(p.name for p in shared.iterdir()) == sorted({*shared_names} - {'no_signal.safetensors'}) # it was not cut from recordings
    assert b.classes == load_run(run.path)['classes'] and b.rejector.threshold == a.rejector.threshold


def test_stored_predictions_are_those_of_the_network(run):
    seen, opened = read_predictions(run.predictions), open_run(run.path, 'cpu')
    z = load_finished(run.path, 'cpu').outputs(opened.dl.store.take(opened.dl.indices))
    assert np.abs(z.numpy() - seen.preds.logits.numpy()).max() < 1e-5
    assert seen.columns['index'].tolist() == opened.dl.indices.tolist()


@pytest.mark.parametrize('fields', [
    dict(task='amc', amc=dict(n_per=12, mods=['BPSK', 'GMSK'], snr_list=[0., 20.], length=64)),
    dict(task='amc', amc=dict(n_per=12, mods=['BPSK', 'GMSK'], snr_list=[0., 20.], length=64, tasks=['modulation'])),
    dict(task='defects', defects=dict(n=60, height=16, width=64), data=dict(batch_size=12),
         model=dict(name='timm_cbam', options=dict(backbone='resnet10t', backbone_options=dict(channels=[8, 8, 8, 8], layers=[1, 1, 1, 1])))),
    dict(task='detection', detection=dict(scenes=4, size=16, others=2), sampling=dict(at_least=32), model=dict(name='SignalClassifier'), data=dict(batch_size=16))],
    ids=['amc', 'one task of amc', 'defects', 'detection'])
def test_every_task(fields, tmp_path):
    "Its scores follow from its predictions; its card says them."
    own = {k: v for k,v in tiny.items() if k not in ('synth', 'openset')}
    path = run_experiment({**own, **fields, 'out_dir': str(tmp_path)}).path
    out = save_pretrained(load_finished(path, 'cpu'), tmp_path/'out')
    for folder in (path, out):
        checks = verify(folder)
        assert len(checks) > 8 and all(c.holds for c in checks), report_text([c for c in checks if not c.holds])
    assert load_pretrained(out, 'cpu').recipe.task == fields['task']


# What does not hold

def test_the_command_finds_a_changed_digit(shared, tmp_path):
    from lt_signals.apps.verify import verify_command
    copy = tmp_path/'copy'
    shutil.copytree(shared, copy)
    assert verify_command([str(copy), 'quiet=true']) == 0
    rng, lines = np.random.default_rng(0), (shared/'README.md').read_text().splitlines()
    numbered = [i for i,l in enumerate(lines) if any(c.isdigit() for c in l)]
    for i in rng.choice(numbered, 12, replace=False): # any digit of any line
        at = rng.choice([j for j,c in enumerate(lines[i]) if c.isdigit()])
        line = lines[i][:at] + str((int(lines[i][at]) + 1) % 10) + lines[i][at+1:]
        (copy/'README.md').write_text('\n'.join([*lines[:i], line, *lines[i+1:]]) + '\n')
        assert [c.holds for c in verify(copy)].count(False) == 1, line
    assert verify_command([str(copy), 'quiet=true']) == 1


@pytest.mark.parametrize('name', [n for n in shared_names if n not in ('README.md', 'no_signal.safetensors')])
def test_changed_files_are_found(shared, tmp_path, name):
    copy = tmp_path/'copy'
    shutil.copytree(shared, copy)
    raw = bytearray((copy/name).read_bytes())
    at = max(i for i,c in enumerate(raw) if not name.endswith('.json') or chr(c) in '12345678')
    raw[at] ^= 1
    (copy/name).write_bytes(raw)
    try: assert not all(c.holds for c in verify(copy))
    except LTSError as e: assert name in str(e)


def test_words_may_be_added_but_no_numbers(shared, tmp_path):
    copy = tmp_path/'copy'
    shutil.copytree(shared, copy)
    text = (shared/'README.md').read_text()
    (copy/'README.md').write_text(text + '\nThanks to all.\n')
    assert all(c.holds for c in verify(copy))
    (copy/'README.md').write_text(text + '\nOn our roof it reaches 99 %.\n')
    assert [c.what for c in verify(copy) if not c.holds] == ['On our roof it reaches 99 %.']


# Folders of strangers

def use(folder):
    load_pretrained(folder, 'cpu')
    verify(folder)

@pytest.mark.parametrize('name', ['config.json', 'predictions.safetensors', 'model.safetensors', 'rejector.safetensors'])
def test_damaged_folders(shared, tmp_path, name):
    copy = tmp_path/'copy'
    shutil.copytree(shared, copy)
    fuzz(name, copy/name, 30, lambda: use(copy), damaged_json if name.endswith('.json') else mutant, copy)

@pytest.mark.slow
@pytest.mark.parametrize('name', ['config.json', 'predictions.safetensors', 'model.safetensors', 'rejector.safetensors'])
def test_many_damaged_folders(shared, tmp_path, name):
    copy = tmp_path/'copy'
    shutil.copytree(shared, copy)
    fuzz(name, copy/name, 1500, lambda: use(copy), damaged_json if name.endswith('.json') else mutant, copy)


def test_nothing_is_executed_or_fetched(shared, tmp_path, monkeypatch):
    "A folder that names a program, and weights elsewhere."
    import socket
    tried, copy = [], tmp_path/'copy'
    def refuse(*args, **kwargs): tried.append(args); raise OSError('no network')
    for name in ('getaddrinfo', 'create_connection'): monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, 'connect', refuse)
    shutil.copytree(shared, copy)
    (copy/'evil.py').write_text(f'open({str(tmp_path/"done")!r}, "w")')
    d = json.loads((copy/'config.json').read_text())
    hostile = [dict(d, modules=['evil']), dict(d, modules=[str(copy/'evil.py')], config=dict(d['config'], plugins=[str(copy/'evil.py')])),
               dict(d, config=dict(d['config'], model=dict(name='timm', options=dict(pretrained=True, backbone='hf-hub:a/b')))),
               dict(d, config=dict(d['config'], model=dict(d['config']['model'], weights='http://example.org/w.pth')))]
    monkeypatch.chdir(copy)
    for h in hostile:
        (copy/'config.json').write_text(json.dumps(h))
        assert attempt(lambda: load_pretrained(copy, 'cpu'), copy) in ('read', 'refused')
        assert attempt(lambda: verify(copy), copy) in ('read', 'refused')
    assert not tried and not (tmp_path/'done').exists() and 'evil' not in sys.modules


def test_a_hub_is_asked_only_when_it_is_allowed(shared, monkeypatch):
    asked = []
    def snapshot_download(name, allow_patterns=None):
        asked.append((name, allow_patterns))
        if name == 'a/none': raise OSError('404 Client Error')
        return str(shared)
    monkeypatch.setitem(sys.modules, 'huggingface_hub', types.SimpleNamespace(snapshot_download=snapshot_download, __spec__=True))
    with pytest.raises(LTSError, match='hub=True fetches it'): load_pretrained('somebody/emitters', 'cpu')
    assert not asked
    assert load_pretrained('somebody/emitters', 'cpu', hub=True).recipe.name == 'small'
    assert asked == [('somebody/emitters', ['*.json', '*.safetensors'])]
    with pytest.raises(LTSError, match='cannot be fetched from the hub .OSError: 404 Client Error'): find_pretrained('a/none', hub=True)
    with pytest.raises(LTSError, match='neither a folder nor one of'): find_pretrained('../somewhere/else', hub=True)


# Moved runs

def test_a_run_can_be_moved(run, tmp_path):
    before, new = summarize(run.path).to_markdown(), tmp_path/'elsewhere'/'moved'
    shutil.copytree(run.path, new)
    assert str(run.path) not in ''.join(p.read_text() for p in (RunFolder(new).recipe, RunFolder(new).results, RunFolder(new).summary))
    a, b = load_finished(run.path, 'cpu'), load_finished(new, 'cpu')
    x = torch.zeros(1, *a.recipe.shape)
    assert torch.equal(a.outputs(x), b.outputs(x)) and b.folder == new
    assert len(open_run(new, 'cpu').dl.indices) == read_predictions(RunFolder(new).predictions).n
    assert summarize(new).to_markdown() == before and not collect_runs(new.parent)[1]
    assert all(c.holds for c in verify(new))


# Networks of the user's own

own_model = '''
from torch import nn
from lt_signals.models.base import models, SignalModel

@models.register('Tiny', input='iq')
class Tiny(SignalModel):
    "A linear network of my own"
    def __init__(self, num_classes, in_channels=2, **kwargs):
        body = nn.Sequential(nn.AdaptiveAvgPool1d(8), nn.Flatten())
        super().__init__(body, 8*in_channels, num_classes, in_channels, **kwargs)
'''

ask = '''
import sys
from lt_signals.core.errors import LTSError
from lt_signals.core.registry import load_plugins
from lt_signals.runs.finished import load_finished
from lt_signals.runs.results import load_model
for plugins in ([], sys.argv[2:]): # first without the module, then with it
    load_plugins(plugins)
    for load in (load_finished, load_model):
        try: print(type(load(sys.argv[1])).__name__)
        except LTSError as e: print(e)
'''

@pytest.mark.slow # two processes each, which import everything
@pytest.mark.parametrize('plugin', [True, False], ids=['plugin', 'import'])
def test_whoever_lacks_the_module_is_told(tmp_path, plugin):
    "By its name, in a process that has not imported it; the file may lie elsewhere by then."
    here, there = tmp_path/'here', tmp_path/'there'
    here.mkdir(), there.mkdir()
    (here/'my_models.py').write_text(own_model)
    train = 'import my_models' if not plugin else ''
    fields = {**tiny, 'out_dir': str(here), 'model': dict(name='Tiny'), 'plugins': [str(here/'my_models.py')] if plugin else []}
    code = f'{train}\nfrom lt_signals.runs.experiment import run_experiment\nprint(run_experiment({fields!r}).path)'
    path = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=here, capture_output=True, text=True, check=True).stdout.split()[-1]
    shutil.move(here, there/'moved')
    path = path.replace(str(here), str(there/'moved'))
    (there/'my_models.py').write_text(own_model)
    told = subprocess.run([sys.executable, '-W', 'ignore', '-c', ask, path, str(there/'my_models.py')], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    for line in told[:2]:
        assert "the run's model 'Tiny' is defined in my_models" in line and 'import it first' in line and 'did you mean' not in line, line
    assert told[2:] == ['FinishedRun', 'Tiny'], told
