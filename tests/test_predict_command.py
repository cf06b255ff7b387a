"""`lts_predict` over files: killed (`kill -9`) at random moments and given again, beside a detector, in every form, and through Ray Data.

The table after any number of kills is that of a run without one, byte for byte, nothing is left beside it, and what was done is not done again.
"""
import json, os, shutil, signal, time, warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lt_signals.apps.predict import predict_command
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.outputs import read_rows
from lt_signals.runs.predict_files import predict_files
from lt_signals.runs.predict_worker import PredictJob

pytestmark = [pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs os.fork'), pytest.mark.filterwarnings('ignore')]
small = {'progress': False, 'device': 'cpu', 'visualization.enabled': False, 'stage2.enabled': False, 'training.epochs': 1}


def record(path, k, rng, n=2**14, shift=0.):
    "Telegrams of transmitter `k` between pauses."
    t = np.arange(n)
    z = .5*(t//2048 % 3 == 1)*np.exp(2j*np.pi*(shift + .03 + .1*k)*t) + .02*(rng.normal(size=(n, 2))@[1, 1j])
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.stack([z.real, z.imag], 1)*100 + 127.5).round().clip(0, 255).astype(np.uint8).tofile(path)


@pytest.fixture(scope='module')
def given(tmp_path_factory):
    "A run, recordings of which one is empty and one has two blocks of windows, and the tables of a call that nothing stops."
    folder, rng = tmp_path_factory.mktemp('given'), np.random.default_rng(0)
    torch.set_num_threads(1)
    for k in range(3):
        for i in range(4): record(folder/f'train/{k}/{i}.cu8', k, rng)
    for i in range(10): record(folder/f'archive/{i % 3}/{i}.cu8', i % 3, rng)
    record(folder/'archive/long.cu8', 1, rng, 2**20)
    (folder/'archive/0/empty.cu8').touch()
    run = run_experiment(small | {'out_dir': str(folder/'runs'), 'data.path': str(folder/'train'), 'model.name': 'ResNet1D',
                                  'data.options': dict(window=256, sample_rate=1e6), 'model.options': dict(depth=2, width=8)})
    (folder/'run').symlink_to(run.path)
    start = time.perf_counter()
    assert call(folder, folder/'table.csv') == 0
    (folder/'took').write_text(str(time.perf_counter() - start))
    return folder


def call(given, out, *more):
    return predict_command([str(given/'run'), str(given/'archive'), f'out={out}', 'sample_rate=1e6', 'device=cpu', *more])

def in_child(task):
    "A forked child that does something, silently; its number."
    pid = os.fork()
    if pid: return pid
    try:
        for stream in (1, 2): os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        os._exit(task())
    finally: os._exit(1)

def kill_until_done(given, out, rng, most):
    "Kill calls at random moments, and let the last one end; the number that were killed."
    killed, took = 0, float((given/'took').read_text())
    for _ in range(most):
        pid = in_child(lambda: call(given, out))
        time.sleep(rng.uniform(.1, .9)*took)
        os.kill(pid, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        assert not out.exists() or out.read_bytes() == (given/'table.csv').read_bytes()
    assert os.waitpid(in_child(lambda: call(given, out)), 0)[1] == 0
    return killed

def check_as_never_stopped(given, out):
    assert out.read_bytes() == (given/'table.csv').read_bytes()
    assert json.loads(Path(f'{out}.json').read_text()) == json.loads((given/'table.csv.json').read_text())
    assert sorted(p.name for p in out.parent.iterdir()) == ['table.csv', 'table.csv.json']


def test_killed_now_and_then(given, tmp_path):
    kill_until_done(given, tmp_path/'table.csv', np.random.default_rng(0), 3)
    check_as_never_stopped(given, tmp_path/'table.csv')


@pytest.mark.slow
def test_killed_at_random(given, tmp_path):
    "100 kills, five of each table."
    rng, killed = np.random.default_rng(1), 0
    for i in range(20):
        (tmp_path/str(i)).mkdir()
        killed += kill_until_done(given, tmp_path/str(i)/'table.csv', rng, 5)
        check_as_never_stopped(given, tmp_path/str(i)/'table.csv')
    print(f'{killed} killed')
    assert killed > 50


def test_what_is_done_is_not_done_again(given, tmp_path, monkeypatch):
    "A call that dies after each piece does every piece once."
    from lt_signals.core.journal import Journal
    from lt_signals.runs import predict_worker as module
    asked, out, answer, append = [], tmp_path/'table.csv', module.answer, Journal.append
    monkeypatch.setattr(module, 'answer', lambda run, store, n: asked.append(0 if store is None else len(store)) or answer(run, store, n))
    def dies(self, piece):
        append(self, piece)
        raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(Journal, 'append', dies)
        for _ in range(5): assert call(given, out) == 130
    assert call(given, out) == 0
    check_as_never_stopped(given, out)
    rows = read_rows(out, json.loads(Path(f'{out}.json').read_text())['columns'])
    assert sum(asked) == rows['start'].notna().sum()


def test_every_form_holds_the_same(given, tmp_path):
    table = read_rows(given/'table.csv', kinds := json.loads((given/'table.csv.json').read_text())['columns'])
    assert table['problem'].notna().sum() == 1 and 'is empty' in table.set_index('source').problem['0/empty.cu8']
    forms = ['jsonl']
    try: import pyarrow.parquet  # noqa
    except ImportError: pass
    else: forms.append('parquet')
    for form in forms:
        assert call(given, tmp_path/f'table.{form}') == 0
        pd.testing.assert_frame_equal(read_rows(tmp_path/f'table.{form}', kinds), table)


@pytest.fixture(scope='module')
def detector(given):
    "A run of the task detection that was trained for a moment."
    return run_experiment(small | {'task': 'detection', 'out_dir': str(given/'runs'), 'detection.scenes': 4, 'detection.size': 16}).path


def test_a_detector_finds_what_is_named(given, detector, tmp_path):
    "Boxes of a wide capture, as a table and as SigMF annotations that the package `sigmf` validates."
    from sigmf.sigmffile import fromfile
    rng, n = np.random.default_rng(2), 2**20
    z, t = .01*(rng.normal(size=(n, 2))@[1, 1j]), np.arange(n)
    for i, f in enumerate((-.3, -.05, .22)):
        on = slice(100_000 + 250_000*i, 300_000 + 250_000*i)
        z[on] += .3*np.exp(2j*np.pi*f*t[on])
    (np.stack([z.real, z.imag], 1)*100 + 127.5).round().clip(0, 255).astype(np.uint8).tofile(tmp_path/'wide.cu8')
    args = [str(given/'run'), str(tmp_path/'wide.cu8'), f'detector={detector}', 'sample_rate=4e6', 'center_freq=433.92e6', 'min_score=0', 'device=cpu']
    assert predict_command([*args, f'out={tmp_path}/table.csv']) == 0
    table = pd.read_csv(tmp_path/'table.csv')
    for i, f in enumerate((-.3, -.05, .22)):
        box = table[(table.low_hz < 433.92e6 + f*4e6) & (table.high_hz > 433.92e6 + f*4e6)].sort_values('count').iloc[-1]
        assert abs(box['start'] - 100_000 - 250_000*i) < 3000 and abs(box['count'] - 200_000) < 6000 and box['class'] in ('0', '1', '2', 0, 1, 2)
    assert predict_command([*args, f'out={tmp_path}/named.sigmf-meta']) == 0
    meta = fromfile(str(tmp_path/'named.sigmf-meta'))
    meta.validate()
    notes, table = meta.get_annotations(), table[table['class'].astype(str) != 'no signal']
    assert 3 <= len(notes) == len(table) and {n['core:label'] for n in notes} <= {'0', '1', '2'}
    assert sorted(n['core:freq_lower_edge'] for n in notes) == pytest.approx(sorted(table.low_hz), abs=1)
    assert all({'lts:probability', 'lts:score', 'core:comment'} <= set(n) for n in notes) and len(meta.read_samples()) == n


@pytest.mark.slow
def test_ray_says_the_same(given, tmp_path):
    "A local cluster of two workers gives the table of one process row by row, and takes over what that has begun."
    pytest.importorskip('ray')
    job = PredictJob(str((given/'run').resolve()), sample_rate=1e6, device='cpu')
    predict_files(job, given/'archive', tmp_path/'table.csv', engine='ray', workers=2)
    check_as_never_stopped(given, tmp_path/'table.csv')
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    pid = in_child(lambda: call(given, tmp_path/'table.csv'))
    time.sleep(.6*float((given/'took').read_text()))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    predict_files(job, given/'archive', tmp_path/'table.csv', engine='ray', workers=2)
    check_as_never_stopped(given, tmp_path/'table.csv')
