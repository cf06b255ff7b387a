"""Damaged and hostile run folders, weight files and label files: each is refused in a sentence that names the file, or read as it was written.

40 to 150 mutants a file; 3,000 with `-m slow`. JSON is damaged in its bytes and in its values. What is loaded from a damaged file of weights must be what was saved.
"""
import base64, copy, io, json, shutil, signal, time, zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lt_signals.core.errors import LTSError, SignalFileWarning
from lt_signals.core.runs import RunFolder
from lt_signals.evaluation.rejection import Rejector
from lt_signals.io.defects import open_defects
from lt_signals.runs.collect import collect_runs, read_run
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.results import load_model, load_run, open_run
from lt_signals.runs.summarize import summarize
from lt_signals.tasks.config import read_config
from lt_signals.training.checkpoint import load_state, read_weights
from lt_signals.training.fit import RunState

from test_fuzz_readers import mutant

pytestmark = pytest.mark.filterwarnings('ignore')
inner = ('TypeError', 'KeyError', 'IndexError', 'AttributeError', 'RecursionError', 'MemoryError')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A small finished run with a rejector."
    out = tmp_path_factory.mktemp('runs')
    return run_experiment(out_dir=str(out), exp_name='small', seed=3, progress=False, device='cpu', training=dict(epochs=1), openset=dict(score='knn'),
                          synth=dict(n_classes=4, n_max=20, imbalance_ratio=4., n_valid=4, n_test=4), data=dict(batch_size=32),
                          model=dict(name='ResNet1D', options=dict(depth=2, width=4)), stage2=dict(epochs=1), visualization=dict(enabled=False))


# Mutants of values

odd = [None, True, False, 0, -1, 1, 2**31, 2**62, -2**63, .5, -1e308, '', 'a', '\0', '${oc.env:HOME}', '???', 'http://localhost:9/w.safetensors', 'hf-hub:a/b', '../..',
       [], {}, [[]], [None], {'': {}}, {'_target_': 'os.system'}, ['x', 1], 'é'*300]

def places(o, at=()):
    "Every place of a nested value."
    yield at
    for k,v in (o.items() if isinstance(o, dict) else enumerate(o) if isinstance(o, list) else ()): yield from places(v, (*at, k))

def damaged_json(raw, rng):
    "Another value, a missing, renamed or new one, far too deep, another encoding; or other bytes."
    kind = rng.integers(8)
    if kind < 2: return mutant(raw, rng)
    if kind == 2:
        return [b'[]', b'null', b'', b'{"a":'*9999, b'['*200_000, raw.decode().replace('"', '"é', 3).encode('latin1'), raw.replace(b'1', b'NaN', 1),
                raw.replace(b'0', b'1e999', 2), b'"text"', raw.replace(b': ', b': 9' + b'9'*5000, 1)][rng.integers(10)]
    o = json.loads(raw)
    for _ in range(rng.integers(1, 3)):
        all_places = list(places(o))[1:]
        if not all_places: break
        *way, last = all_places[rng.integers(len(all_places))]
        at = o
        for k in way: at = at[k]
        if kind == 3: del at[last]
        elif kind == 4 and isinstance(at, dict): at[f'{last}x'] = at.pop(last)
        elif kind == 5 and isinstance(at, dict): at['new'] = odd[rng.integers(len(odd))]
        else: at[last] = copy.deepcopy(odd[rng.integers(len(odd))])
    return json.dumps(o).encode()


# Attempts: what is done with a damaged file; each returns 'read', or raises

def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)

def attempt(what, *files):
    "'read', 'refused', or what went wrong."
    try: what()
    except LTSError as e:
        said = str(e)
        if any(k in said for k in inner): return f'an error inside: {said}'
        return 'refused' if any(str(f) in said for f in files) else f'error without its file: {said}'
    except BaseException as e: return f'{type(e).__name__}: {e}'
    return 'read'

def fuzz(name, file, n, what, damage, *files):
    "Damage a file `n` times."
    raw, bad, seen, slowest = file.read_bytes(), [], dict(read=0, refused=0), 0.
    assert attempt(what, file) == 'read', attempt(what, file)
    for seed in range(n):
        file.write_bytes(damage(raw, np.random.default_rng(seed)))
        start = time.perf_counter()
        signal.alarm(60)
        got = attempt(what, file, *files)
        signal.alarm(0)
        slowest = max(slowest, time.perf_counter() - start)
        if got in seen: seen[got] += 1
        else: bad.append((seed, got[:300]))
    file.write_bytes(raw)
    print(f'{name}: {seen}, {len(bad)} bad, slowest {slowest:.2f} s')
    assert not bad, bad[:8]
    assert seen['refused']

def use_results(run):
    load_run(run.path)
    read_run(run.path)

def use_config(run):
    read_config(run)
    load_model(run.path)
    read_run(run.path)

def attack(run, part, n):
    "Damage one file of a run folder."
    points = run.checkpoints
    if part == 'results': return fuzz(part, run.results, n, lambda: use_results(run), damaged_json, run.path)
    if part == 'config': return fuzz(part, run.config, n, lambda: use_config(run), damaged_json, run.path)
    file = points/dict(weights='final.safetensors', rejector='rejector.safetensors', state='state.pt')[part]
    if part == 'weights':
        saved = load_file(file)
        def what():
            load_model(run.path)
            assert same(read_weights(file), saved), 'other weights were read'
    elif part == 'rejector':
        model, saved = load_model(run.path), load_file(file)
        def what():
            Rejector.load(file, model)
            assert same(load_file(file), saved), 'another rejector was read'
    else:
        whole = load_state(file)
        def what():
            RunState(points, json.loads(whole['settings'])).load()
            assert same(load_state(file)['model'], whole['model']), 'other weights were read'
    fuzz(part, file, n, what, mutant)

parts = 'results', 'config', 'weights', 'rejector', 'state'

@pytest.mark.parametrize('part', parts)
def test_damaged_runs(run, part): attack(run, part, dict(results=60, config=40, weights=50).get(part, 150))

@pytest.mark.slow
@pytest.mark.parametrize('part', parts)
def test_many_damaged_runs(run, part): attack(run, part, 3000)


def test_one_bad_folder_stops_no_summary(run, tmp_path):
    "It is listed with its reason."
    bad = {'list': '[]', 'null': 'null', 'cut': run.results.read_text()[:99], 'deep': '{"a":'*9999, 'latin': '{"a": "é"}'.encode('latin1')}
    shutil.copytree(run.path, tmp_path/'fine')
    for name,text in bad.items():
        shutil.copytree(run.path, tmp_path/name, ignore=shutil.ignore_patterns('checkpoints'))
        where = RunFolder(tmp_path/name)
        (where.results if name != 'deep' else where.config).write_bytes(text if isinstance(text, bytes) else text.encode())
    shutil.copytree(run.path, tmp_path/'absent')
    RunFolder(tmp_path/'absent').results.unlink()
    RunFolder(tmp_path/'absent').results.mkdir()
    found, skipped = collect_runs(tmp_path)
    assert set(found['run']) == {'fine'} and {Path(k).name for k in skipped} == {*bad, 'absent'}
    text = summarize(tmp_path).to_markdown()
    assert all(f'`{k}`: ' in text for k in bad) and 'results.json' in text


@pytest.mark.parametrize('value', ['${oc.env:HOME}', '${env:HOME}', '${seed}', '???'])
def test_nothing_is_looked_up(run, value):
    config = json.loads(run.config.read_text())
    config['data']['path'] = value
    stored = run.config.read_text()
    try:
        run.config.write_text(json.dumps(config))
        with pytest.raises(LTSError, match='data.path'): read_config(run)
    finally: run.config.write_text(stored)


def test_nothing_is_fetched(tmp_path, monkeypatch):
    "A stranger's configuration with addresses of weights: no connection is tried."
    import socket
    small = dict(channels=[8, 8, 8, 8], layers=[1, 1, 1, 1])
    run = run_experiment(out_dir=str(tmp_path), exp_name='timm', progress=False, device='cpu', training=dict(epochs=1), stage2=dict(enabled=False),
                         synth=dict(n_classes=3, n_max=8, imbalance_ratio=2., n_valid=3, n_test=3), visualization=dict(enabled=False),
                         model=dict(name='timm', options=dict(image_size=32, backbone_options=small)))
    tried = []
    def refuse(*args, **kwargs): tried.append(args); raise OSError('no network')
    for name in ('getaddrinfo', 'create_connection'): monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, 'connect', refuse)
    config = json.loads(run.config.read_text())
    address = dict(url='http://example.org/w.pth')
    for o in (dict(pretrained=True), dict(pretrained=True, backbone_options={**small, 'pretrained_cfg_overlay': address}),
              dict(backbone_options={**small, 'pretrained_cfg': address, 'pretrained': True}), dict(backbone='hf-hub:timm/resnet18.a1_in1k'),
              dict(backbone_options={**small, 'checkpoint_path': 'http://example.org/w.pth'})):
        options = {**config['model']['options'], **o}
        run.config.write_text(json.dumps({**config, 'model': {**config['model'], 'options': options}}))
        assert attempt(lambda: load_model(run.path), run.path) in ('read', 'refused')
    assert not tried


def test_files_of_others_are_read_with_a_word(run, tmp_path):
    "Weights without a digest."
    from safetensors.torch import save_file
    save_file({k: v.clone() for k,v in load_file(run.checkpoints/'final.safetensors').items()}, tmp_path/'w.safetensors')
    with pytest.warns(SignalFileWarning, match='carries no digest'): read_weights(tmp_path/'w.safetensors')
    torch.save(dict(w=torch.ones(2)), tmp_path/'w.pt')
    with pytest.warns(SignalFileWarning, match='carries no digest'): read_weights(tmp_path/'w.pt')


# Annotations and labels

def supervisely(folder):
    "Two annotated images."
    png = io.BytesIO()
    Image.fromarray(np.ones((4, 6), np.uint8)*255).save(png, 'png')
    data = base64.b64encode(zlib.compress(png.getvalue())).decode()
    shape = dict(classTitle='pit', geometryType='bitmap', bitmap=dict(origin=[3, 2], data=data))
    for part in ('img', 'ann'): (folder/'train'/part).mkdir(parents=True)
    for name in 'ab':
        Image.fromarray(np.zeros((16, 20), np.uint8)).save(folder/f'train/img/{name}.png')
        (folder/f'train/ann/{name}.png.json').write_text(json.dumps(dict(size=dict(height=16, width=20), objects=[shape, dict(shape, classTitle='scratch')])))
    (folder/'meta.json').write_text(json.dumps(dict(classes=[dict(title='pit'), dict(title='scratch')])))
    return folder

def open_supervisely(folder):
    store = open_defects(folder/'train')
    store.masks(range(len(store)))

def attack_annotations(folder, which, n):
    file = supervisely(folder)/which
    fuzz(which, file, n, lambda: open_supervisely(folder), damaged_json, folder)

notes = 'train/ann/a.png.json', 'meta.json'

@pytest.mark.parametrize('which', notes)
def test_damaged_annotations(tmp_path, which): attack_annotations(tmp_path, which, 100)

@pytest.mark.slow
@pytest.mark.parametrize('which', notes)
def test_many_damaged_annotations(tmp_path, which): attack_annotations(tmp_path, which, 3000)
