"""Commands that write, killed (`kill -9`) at random moments: what they leave is whole, and the same command ends as if it had never been killed.

Every file that is found after a kill is that of a run without one, or that of the run before; a second run leaves neither less nor more.
By default a few kills of most commands; with `-m slow` 200 and more over all. A new command is one entry of `commands`.
"""
import csv, json, os, shutil, signal, time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from lt_signals.apps.convert import convert_command
from lt_signals.apps.detect import detect_command
from lt_signals.apps.perturb import perturb_command
from lt_signals.apps.pis import pis_command
from lt_signals.apps.plates import plates_command
from lt_signals.apps.summarize import summarize_command
from lt_signals.apps.synth import synth_command
from lt_signals.apps.train import train_command
from lt_signals.core.tensor_files import read_tensors
from lt_signals.io.readers import open_signals
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.results import load_run
from lt_signals.synth.layouts import write_modulations
from lt_signals.training.checkpoint import load_state

pytestmark = [pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs os.fork'), pytest.mark.filterwarnings('ignore')]
NET = dict(image_size=32, backbone_options=dict(channels=[8, 8, 8, 8], layers=[1]*4))


@pytest.fixture(scope='module')
def given(tmp_path_factory):
    "What commands read: a folder with a set of frames, a recording, and a run."
    folder = tmp_path_factory.mktemp('given')
    write_modulations(folder/'set', 'split_hdf5', ['BPSK', 'QPSK'], [0, 10], 12, 64)
    rng, t = np.random.default_rng(0), np.arange(60_000)
    x = .1*rng.standard_normal((2, len(t))).astype('f4') + .5*(t % 20000 < 5000)*np.stack([np.cos(t), np.sin(t)])
    x.T.astype('<f4').tofile(folder/'rec.cf32')
    run = run_experiment({
        'task': 'amc', 'out_dir': str(folder/'runs'), 'progress': False, 'device': 'cpu', 'amc.n_per': 12, 'amc.mods': ['BPSK', '16QAM'],
        'amc.snr_list': [0., 20.], 'amc.length': 64, 'training.epochs': 1, 'data.batch_size': 16, 'data.test_ratio': .5,
        'model.name': 'resnet18', 'model.options': NET, 'visualization.enabled': False})
    (folder/'run').symlink_to(run.path)
    return folder


# Commands: function (what is given, where to) → arguments; those of the run before, None where there is none; name of what is written
small = ['task=emitter', 'device=cpu', 'progress=false', 'synth.n_classes=3', 'synth.n_max=12', 'synth.imbalance_ratio=3', 'synth.n_valid=4',
         'synth.n_test=4', 'model.name=ResNet1D', 'model.options={depth: 2, width: 8}', 'training.epochs=2', 'stage2.epochs=1', 'visualization.enabled=false', 'resume=true']
frames = ['classes=BPSK,QPSK', 'snrs=0,10', 'n_per=40', 'length=64', 'device=cpu', 'overwrite=true']

commands = {
    'synth_file': (synth_command, lambda given, out: [f'{out}/set.h5', *frames], ['seed=1']),
    'synth_folder': (synth_command, lambda given, out: [f'{out}/set', 'layout=split_hdf5', *frames], ['seed=1']),
    'synth_pickle': (synth_command, lambda given, out: [f'{out}/set.pkl', 'layout=rml2016', *frames], ['seed=1']),
    'convert_folder': (convert_command, lambda given, out: [f'{given}/set', f'out={out}/png', 'image_size=32'], None),
    'convert_file': (convert_command, lambda given, out: [f'{given}/set', f'out={out}/images.h5', 'image_size=32'], None),
    'detect': (detect_command, lambda given, out: [f'{given}/rec.cf32', f'out={out}', 'sample_rate=1e6', 'device=cpu', 'copy=true'], ['n_fft=128']),
    'plates': (plates_command, lambda given, out: [f'{out}/steel', 'n=40', 'height=32', 'width=64'], None),
    'perturb': (perturb_command, lambda given, out: [f'{given}/run', f'out={out}/perturbed', 'percent=5', 'device=cpu'], None),
    'perturb_file': (perturb_command, lambda given, out: [f'{given}/run', f'out={out}/images.h5', 'percent=5', 'device=cpu'], None),
    'pis': (pis_command, lambda given, out: [f'{given}/run', f'out={out}/pis', 'percent=5', 'orders=top,random', 'curve=0', 'n_boot=20', 'device=cpu'], None),
    'summarize': (summarize_command, lambda given, out: [f'{given}/runs', f'out={out}/summary'], ['stages=all', 'top=1']),
    'train': (train_command, lambda given, out: [f'out_dir={out}', 'exp_name=demo', *small], None)}


# What a folder holds

def content(file):
    "Content of a file as it is compared: of metadata without the name that their samples have for a moment."
    if file.suffix != '.sigmf-meta': return file.read_bytes()
    meta = json.loads(file.read_text())
    name = meta['global'].pop('core:dataset', f'{file.stem}.sigmf-data')
    return json.dumps(meta), (file.parent/name).read_bytes()

def is_hidden(file, folder): return any(part.startswith('.') for part in file.relative_to(folder).parts)

def held(folder, hidden=False):
    "Files of a folder by name."
    return {str(f.relative_to(folder)): f for f in folder.rglob('*') if f.is_file() and (hidden or not is_hidden(f, folder))}

def check_whole(folder, *references):
    "Every file is one of those that a run ends with; samples belong to their metadata."
    for name, file in held(folder).items():
        if name.endswith('.sigmf-data'): continue
        whole = [content(r/name) for r in references if (r/name).exists()]
        assert content(file) in whole, f'{name} is neither old nor new'

def kind_of(file):
    "What a file of tensors says that it holds."
    with safe_open(file, 'pt') as f: return [*f.metadata()][0]

def check_run(folder):
    "Whatever a run has written so far can be read."
    for file in held(folder).values():
        if file.suffix == '.json': json.loads(file.read_text())
        if file.suffix == '.safetensors': read_tensors(file, kind_of(file))
        if file.suffix in ('.pt', '.pth'): load_state(file)
        if file.suffix == '.csv': assert len({len(row) for row in csv.reader(file.open())}) == 1, file

def results_of(folder):
    "What a run found, without times and places."
    run, = [p for p in folder.glob('demo_2*') if p.is_dir()]
    stages = load_run(run)['stages']
    assert (folder/'demo_latest').resolve() == run.resolve()
    return [(s['name'], s['rows']) for s in stages]


def run_command(name, given, out, more=()):
    "Run a command in this process."
    command, args, _ = commands[name]
    Path(out).mkdir(parents=True, exist_ok=True)
    assert command([*args(given, out), *more]) == 0

def in_child(name, given, out, more=()):
    "The same in a forked child, silently; its number."
    pid = os.fork()
    if pid: return pid
    code = 1
    try:
        for stream in (1, 2): os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        torch.set_num_threads(1)
        run_command(name, given, out, more)
        code = 0
    finally: os._exit(code)

def finish(*args):
    "Run a command in a child to its end; the seconds that it took."
    start = time.perf_counter()
    assert os.waitpid(in_child(*args), 0)[1] == 0, args
    return time.perf_counter() - start


class Killed:
    "A command that is killed again and again."
    def __init__(self, name, given, folder):
        self.name, self.given, self.folder, self.old = name, given, folder, commands[name][2]
        torch.set_num_threads(1)
        run_command(name, given, folder/'new') # Here, so that children need not import again
        self.took = finish(name, given, folder/'old', self.old or ())

    def once(self, when):
        "Kill it after a share of its time, look at what there is, and run it to its end."
        out = self.folder/'out'
        shutil.rmtree(out, ignore_errors=True)
        if self.old: shutil.copytree(self.folder/'old', out, symlinks=True)
        before = held(out)
        pid = in_child(self.name, self.given, out)
        time.sleep(when*self.took)
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        assert {*before} <= {*held(out)}, 'a file of the run before is lost'
        self.check(out)
        finish(self.name, self.given, out)
        self.check_end(out)
        return os.WIFSIGNALED(status)

    def check(self, out):
        if self.name == 'train': check_run(out)
        else: check_whole(out, self.folder/'new', *[self.folder/'old']*bool(self.old))

    def check_end(self, out):
        "As if it had never been killed."
        litter = [f for f in out.rglob('*') if '.part' in f.name or '.tmp' in f.name]
        assert not litter, litter
        if self.name == 'train':
            assert results_of(out) == results_of(self.folder/'new')
            return
        new = held(self.folder/'new', hidden=True)
        expected = {*new, *(held(self.folder/'old', hidden=True) if self.old else ())}
        assert {*held(out, hidden=True)} == expected
        for name in new: assert content(out/name) == content(new[name]), name


@pytest.mark.parametrize('name', ['synth_folder', 'convert_folder', 'detect', 'plates', 'perturb', 'summarize', 'train'])
def test_killed_now_and_then(name, given, tmp_path):
    killed, rng = Killed(name, given, tmp_path), np.random.default_rng(0)
    for when in (.2, .5, .8) if killed.took < .5 else (.6,): killed.once(when + rng.uniform(-.1, .1))


@pytest.mark.slow
def test_killed_at_random(given, tmp_path):
    "17 kills of each command before its end, 204 in all."
    rng, n = np.random.default_rng(1), {}
    for name in commands:
        killed = Killed(name, given, tmp_path/name)
        tries = n[name] = 0
        while n[name] < 17 and tries < 60:
            tries += 1
            if killed.once(rng.uniform(0, 1)): n[name] += 1
            else: killed.took *= .9  # the machine has become quicker
        print(f'{name}: {n[name]} of {tries} killed before their end', flush=True)
    print(f'killed before their end: {n}, {sum(n.values())} in all')
    assert sum(n.values()) >= 200
