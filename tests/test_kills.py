"""Writers that are killed: what was there before is whole, or the new is, and the next writer leaves no litter.

By default one kill at each rename of every writer; with `-m slow` 200 more at random moments over all writers.
"""
import json, os, shutil, signal, time

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from matplotlib.figure import Figure

from lt_signals.apps.labeller import LabelSession
from lt_signals.core import files
from lt_signals.core.files import atomic_folder, write_atomically
from lt_signals.core.runs import RunFolder
from lt_signals.core.tensor_files import read_tensors, write_tensors
from lt_signals.evaluation.figures import save_figure
from lt_signals.explain.perturbed import write_perturbed
from lt_signals.explain.perturbed_sets import PerturbationDataset
from lt_signals.io.constellation_files import ConstellationDataset
from lt_signals.io.defects import open_defects
from lt_signals.io.readers import open_signals
from lt_signals.io.sigmf_write import write_sigmf
from lt_signals.io.signal_store import SignalStore
from lt_signals.io.write import write_signals
from lt_signals.synth.layouts import write_modulations
from lt_signals.synth.plate_sets import write_plates
from lt_signals.synth.scenes import write_scene
from lt_signals.training.checkpoint import load_state, save_state
from lt_signals.views.annotations import read_boxes
from lt_signals.views.boxes import make_boxes
from lt_signals.views.constellation import Constellation
from lt_signals.views.constellation_folders import write_constellations
from lt_signals.views.crops import CropStore
from lt_signals.views.streams import open_streams

pytestmark = [pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs os.fork'), pytest.mark.filterwarnings('ignore')]


# What is written: `write(path, version)`, and `check(path)`, which opens it and says which version it is

def signals(version):
    x = np.full((6, 2, 32), version + 1, np.float32) + np.arange(32, dtype=np.float32)
    return SignalStore.from_arrays(x, [0, 0, 1, 1, version, version], ['a', 'b'], dict(snr_db=np.full(6, 10.*version)))

def check_signals(path):
    s = open_signals(path)
    version = int(s.take([0])[0, 0, 0]) - 1
    assert torch.equal(s.take(range(6)), signals(version).take(range(6))) and (s.labels == signals(version).labels).all()
    return version

def check_text(path):
    text = path.read_text()
    assert text in ('0'*5000, '1'*5000)
    return int(text[0])

def write_folder(path, version):
    with atomic_folder(path) as part:
        for i in range(5): (part/f'{i}.txt').write_text(str(version))

def check_folder(path):
    said = {(path/f'{i}.txt').read_text() for i in range(5)}
    assert len(said) == 1 and len([*path.iterdir()]) == 5
    return int(said.pop())

def write_set(layout):
    def write(path, version): write_modulations(path, layout, ['BPSK', 'QPSK'], [0, 10], 2, 32, seed=version, overwrite=True)
    return write

def check_rml2018(path):
    with h5py.File(path) as f: return json.loads(f.attrs['synth'])['seed'] + 0*len(f['X'][:])

def check_split(path):
    files = sorted(path.rglob('*.h5'))
    assert len(files) == 4
    versions = {check_rml2018(f) for f in files}
    assert len(versions) == 1
    return versions.pop()

def boxes(version):
    t = np.arange(2)/10
    return make_boxes(dict(t_start=t, t_stop=t + .05, f_low=t*0 - 100., f_high=t*0 + 100. + version))

def check_scene(path):
    "Samples and boxes of one version."
    x, edges = open_streams(path)[0].read(), read_boxes(path).f_high.to_numpy()
    version = int(x[0].real)
    assert x.shape == (300 + version,) and (x == version + 1j*version).all() and np.allclose(edges, 100 + version)
    return version

def write_labels(path, version):
    "Label two crops of a recording in a session, with its annotations."
    rec = path.parent/'rec.cf32'
    if not rec.exists(): np.zeros((1000, 2), '<f4').tofile(rec)
    crops = CropStore(np.zeros((2, 16, 16), np.float32), meta=boxes(0).assign(stream=0))
    session = LabelSession(crops, path, streams=open_streams(rec, sample_rate=1000.))
    while session.file.numbers: session.undo()
    for _ in range(2): session.label(version)

def check_labels(path):
    rows = path.read_text().splitlines()[1:]
    said = {row.split(',')[1] for row in rows}
    for meta in path.with_suffix('').glob('*.sigmf-meta'):
        assert {*read_boxes(meta).get('label', ())} <= {'noise', 'signal'} and open_streams(meta)[0].n == 1000
    assert len(rows) <= 2
    return {'noise': 0, 'signal': 1}[said.pop()] if len(said) == 1 else None

def write_plot(path, version):
    fig = Figure((1 + version, 1))
    fig.subplots().plot([0, 1])
    save_figure(fig, path.with_suffix(''))

def check_plot(path):
    assert path.with_suffix('.svg').read_text().rstrip().endswith('</svg>')
    with Image.open(path) as image:
        image.load()
        return image.width//150 - 1

def write_latest(path, version):
    RunFolder.create(path.parent, path.name.removesuffix('_latest'))

def check_latest(path):
    assert path.resolve().is_dir()
    return None

writers = {
    'text': ('a.txt', lambda p, v: write_atomically(p, str(v)*5000), check_text),
    'tensors': ('w.safetensors', lambda p, v: write_tensors(p, dict(w=torch.full((50,), float(v)))), lambda p: int(read_tensors(p)[0]['w'][0])),
    'state': ('state.pt', lambda p, v: save_state(dict(w=torch.full((50,), float(v))), p), lambda p: int(load_state(p)['w'][0])),
    'folder': ('folder', write_folder, check_folder),
    **{s[1:]: (f'set{s}', lambda p, v: write_signals(signals(v), p), check_signals) for s in ('.h5', '.npz', '.mat', '.npy')},
    'sigmf': ('rec.sigmf-meta', lambda p, v: write_sigmf(signals(v), p), check_signals),
    'sigmf_archive': ('rec.sigmf', lambda p, v: write_sigmf(signals(v), p), check_signals),
    'scene': ('rec.sigmf-meta', lambda p, v: write_scene(p, np.full((2, 300 + v), v, np.float32), boxes(v), 1000.), check_scene),
    'labels': ('labels.csv', write_labels, check_labels),
    'figure': ('plot.png', write_plot, check_plot),
    'rml2018': ('set.hdf5', write_set('rml2018'), check_rml2018),
    'split_hdf5': ('split', write_set('split_hdf5'), check_split),
    'latest': ('demo_latest', write_latest, check_latest)}

# Those that leave what is complete as it is: a second run goes on
once = {
    'plates': ('steel', lambda p, v: write_plates(p, 6, size=(32, 48)), lambda p: len(open_defects(p)) == 6),
    'perturbed': ('perturbed', lambda p, v: write_perturbed(signals(1), p, ['top'], [20], batch_size=3),
                  lambda p: len(PerturbationDataset(p, 'top20_time')) == 6),
    'constellations': ('png', lambda p, v: write_constellations(signals(1), p, Constellation(16)), lambda p: len(ConstellationDataset(p)) == 6)}


def in_child(task):
    "A forked child that does something; its number."
    pid = os.fork()
    if pid: return pid
    try: task()
    finally: os._exit(0)

def killed_at(k, before):
    "Make the k-th rename, or exchange of two names, kill this process."
    calls = [0]
    def deadly(rename):
        def dies(*args, **kwargs):
            calls[0] += 1
            if calls[0] == k and before: os.kill(os.getpid(), signal.SIGKILL)
            done = rename(*args, **kwargs)
            if calls[0] == k: os.kill(os.getpid(), signal.SIGKILL)
            return done
        return dies
    os.replace, files._exchange = deadly(os.replace), deadly(files._exchange)

def parts(folder):
    "What a writer leaves beside what it made."
    return [p for p in folder.rglob('*') if '.part' in p.name or '.tmp' in p.name or p.name[0] == '.' and p.suffix == '.sigmf-data']

def kill_at_renames(name, path, write, check):
    for k in range(1, 9):
        for before in (True, False):
            shutil.rmtree(path.parent, ignore_errors=True)
            path.parent.mkdir()
            if name not in once: write(path, 0)
            def task():
                killed_at(k, before)
                write(path, 1)
            status = os.waitpid(in_child(task), 0)[1]
            if name not in once: check(path)
            write(path, 1)
            assert check(path) in (1, True, None), 'the next writer did not finish'
            assert not parts(path.parent), f'litter: {parts(path.parent)}'
            if not os.WIFSIGNALED(status): return k
    return k

@pytest.mark.parametrize('name', (*writers, *once))
def test_killed_at_each_rename(name, tmp_path):
    file, write, check = (writers | once)[name]
    assert kill_at_renames(name, tmp_path/'x'/file, write, check) > 1


@pytest.mark.slow
def test_killed_at_random(tmp_path):
    "200 kills over all writers."
    rng, names = np.random.default_rng(1), [*writers, *once]
    for i in range(200):
        name = names[i % len(names)]
        file, write, check = (writers | once)[name]
        path = tmp_path/str(i)/file
        path.parent.mkdir()
        if name not in once: write(path, 0)
        start = time.perf_counter()
        if name not in once: write(path, 0)
        took = time.perf_counter() - start
        pid = in_child(lambda: write(path, 1))
        time.sleep(float(rng.uniform(0, took + .005)))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if name not in once:
            assert path.exists(), name
            check(path)
        write(path, 1)
        assert check(path) in (1, True, None) and not parts(path.parent), (name, parts(path.parent))


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), KeyboardInterrupt()])
@pytest.mark.parametrize('name', [*writers, *once])
def test_nothing_is_left_after_an_exception(name, error, tmp_path, monkeypatch):
    "Old files stay, and no part of the new."
    file, write, check = (writers | once)[name]
    path = tmp_path/'x'/file
    path.parent.mkdir()
    if name not in once: write(path, 0)
    def fails(*args, **kwargs): raise error
    with monkeypatch.context() as m:
        m.setattr(os, 'replace', fails)
        m.setattr(files, '_exchange', fails)
        try: write(path, 1)
        except type(error): pass
    assert not parts(path.parent), parts(path.parent)
    if name not in once: check(path)
