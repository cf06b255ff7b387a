"""Searches: killed drivers and workers leave a table that an unbroken search would have left, and nothing is trained twice."""
import os, random, signal, subprocess, sys, time, warnings
from pathlib import Path

import pandas as pd
import psutil
import pytest

warnings.simplefilter('ignore')
pytest.importorskip('optuna', reason='the extra sweep is not installed')

ENV = os.environ | dict(OMP_NUM_THREADS='1', MPLBACKEND='Agg', PYTHONWARNINGS='ignore')
FIELDS = ['synth.n_classes=4', 'synth.n_max=20', 'synth.imbalance_ratio=4', 'synth.n_valid=4', 'synth.n_test=4', 'data.target_length=64',
          'model.name=choice(ResNet1D,ConvNetADSB)', 'training.lr=tag(log,interval(1e-4,1e-2))', 'training.weight_decay=interval(0,.1)',
          'visualization.enabled=false', 'device=cpu', 'stage2.epochs=1']


def start(folder, *more):
    "A search in a folder, as a process."
    code = 'import sys; from lt_signals.apps.sweep import sweep_command; sys.exit(sweep_command())'
    return subprocess.Popen([sys.executable, '-c', code, *FIELDS, f'out_dir={folder}', 'exp_name=s', *more], env=ENV, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def search(folder, *more, kill=()):
    "Run a search to its end; at each moment of `kill` (seconds, 'driver' or 'worker') something is killed. What was said last."
    p, begun = start(folder, *more), time.monotonic()
    for after, what in kill:
        while time.monotonic() - begun < after and p.poll() is None: time.sleep(.05)
        if p.poll() is not None: break
        below = psutil.Process(p.pid).children(recursive=True)
        busy = [c for c in below if 'forkserver' in ' '.join(c.cmdline())][1:] or below
        victim = p.pid if what == 'driver' or not busy else busy[-1].pid
        os.kill(victim, signal.SIGKILL)
        if victim == p.pid:
            p.communicate()
            psutil.wait_procs(below, 20)  # workers end with the driver
            assert not [c for c in below if c.is_running() and c.status() != psutil.STATUS_ZOMBIE], 'workers outlive their driver'
            p, begun = start(folder, *more), time.monotonic()
    said = p.communicate()[0]
    assert p.returncode == 0, said
    return said


def epochs_of(folder):
    "{run: epochs that were told of in its log}"
    return {f.parent.parent.name.split('_20')[0]: f.read_text().count('\n') for f in Path(folder).glob('s/*_20*/logs/training.log')}


def same_after_kills(tmp_path, options, kill):
    whole = search(tmp_path/'whole', *options)
    broken = search(tmp_path/'broken', *options, kill=kill)
    tables = [(tmp_path/k/'s/trials.csv').read_bytes() for k in ('whole', 'broken')]
    assert tables[0] == tables[1]
    once, again = epochs_of(tmp_path/'whole'), epochs_of(tmp_path/'broken')
    assert again.keys() == once.keys()
    # a kill between the log and the checkpoint of an epoch has it told twice; more would be training twice
    assert all(0 <= again[k] - once[k] <= len(kill) for k in once)
    return whole, broken


def test_what_a_killed_worker_did_is_done_by_another(tmp_path):
    "A worker is killed while two train; every part is answered."
    from lt_signals.runs.part import Part
    from lt_signals.runs.sweep import LocalWorkers
    fields = {'synth.n_classes': 4, 'synth.n_max': 20, 'synth.imbalance_ratio': 4., 'synth.n_valid': 4, 'synth.n_test': 4, 'data.target_length': 64,
              'model.name': 'ResNet1D', 'model.options': dict(depth=2, width=8), 'training.epochs': 2, 'stages': ['stage1'],
              'visualization.enabled': False, 'device': 'cpu'}
    parts = [Part(f't{i}', str(tmp_path), fields | {'seed': i}, threads=1) for i in range(4)]
    with LocalWorkers(2) as work:
        told = {}
        for i, done in work(parts):
            if not told: os.kill(next(iter(work.pool._processes)), signal.SIGKILL)
            told[i] = done
    assert sorted(told) == [0, 1, 2, 3] and all('score' in t for t in told.values()), told


@pytest.mark.slow
def test_same_table_after_a_killed_worker_and_driver(tmp_path):
    "Two workers, four settings, one seed: a driver and a worker are killed."
    options = ['training.epochs=2', 'sweep.trials=4', 'sweep.generation=4', 'sweep.seeds=[1]', 'sweep.first_stop=1', 'sweep.workers=2']
    whole, _ = same_after_kills(tmp_path, options, [(6, 'driver'), (7, 'worker')])
    t = pd.read_csv(tmp_path/'whole/s/trials.csv')
    assert t.state.value_counts().to_dict() == {'stopped after 1 epochs': 3, 'finished': 1}
    assert 'lts_train' in whole and 'trials.csv' in whole


def test_summarize_reads_a_search(tmp_path):
    "Its runs are runs like any other."
    from lt_signals.runs.search_space import Choice, SweepOptions
    from lt_signals.runs.summarize import summarize
    from lt_signals.runs.sweep import Sweep
    fields = {'synth.n_classes': 4, 'synth.n_max': 20, 'synth.imbalance_ratio': 4., 'synth.n_valid': 4, 'synth.n_test': 4, 'data.target_length': 64,
              'model.name': 'ResNet1D', 'model.options': dict(depth=2, width=8), 'training.lr': Choice((1e-3, 3e-3)), 'training.epochs': 1,
              'stages': ['stage1'], 'visualization.enabled': False, 'device': 'cpu'}
    Sweep(fields, SweepOptions(trials=2, generation=2, seeds=[1, 2], first_stop=0, workers=1), tmp_path, 's').run()
    comparison, = summarize([tmp_path/'s']).comparisons
    comparison, = summarize([tmp_path/'s']).comparisons
    text = comparison.table().to_string()
    assert len(comparison.table()) == 2 and '0.003' in text, text


@pytest.mark.slow
def test_twelve_settings_killed_twice_at_random(tmp_path):
    "Twelve settings with two seeds on two workers, killed at two random moments."
    draw = random.Random(os.environ.get('LTS_SEED', 0))
    options = ['training.epochs=4', 'sweep.trials=12', 'sweep.generation=6', 'sweep.seeds=[1,2]', 'sweep.first_stop=1', 'sweep.workers=2']
    kill = [(draw.uniform(6, 25), 'driver'), (draw.uniform(6, 25), 'worker')]
    print(same_after_kills(tmp_path, options, kill)[1])


@pytest.mark.slow
def test_ray_gives_the_same_table(tmp_path):
    "The same search as tasks of a local Ray cluster."
    pytest.importorskip('ray', reason='the extra scale is not installed')
    options = ['training.epochs=2', 'sweep.trials=4', 'sweep.generation=4', 'sweep.seeds=[1]', 'sweep.first_stop=1', 'sweep.workers=2']
    search(tmp_path/'local', *options)
    search(tmp_path/'ray', *options, 'sweep.engine=ray')
    assert (tmp_path/'local/s/trials.csv').read_bytes() == (tmp_path/'ray/s/trials.csv').read_bytes()


def test_spaces_that_ship():
    "The searches in `benchmarks/sweeps` are ones that can be begun."
    from lt_signals.runs.search_space import read_space, SweepOptions
    from lt_signals.runs.sweep import check_space
    files = sorted((Path(__file__).parent.parent/'benchmarks/sweeps').glob('*.yaml'))
    assert files
    for f in files: assert check_space(read_space(f), SweepOptions())


@pytest.mark.slow
def test_slurm_launcher_on_this_machine(tmp_path):
    "Hydra's launcher for Slurm, in its form for one machine, runs `lts_train -m`."
    pytest.importorskip('hydra_plugins.hydra_submitit_launcher', reason='the extra slurm is not installed')
    code = 'import sys; from lt_signals.apps.train import train_command; sys.exit(train_command())'
    fields = [f for f in FIELDS if 'choice' not in f and 'interval' not in f]
    p = subprocess.run([sys.executable, '-c', code, '-m', 'seed=1,2', 'hydra/launcher=submitit_local', *fields, 'model.name=ResNet1D',
                        'training.epochs=1', 'progress=false', f'out_dir={tmp_path}', 'exp_name=s'], env=ENV, capture_output=True, text=True)
    assert p.returncode == 0, p.stderr[-2000:]
    assert len(list(tmp_path.glob('s_*/results/results.json'))) == 3  # two runs, and the link to the latest
