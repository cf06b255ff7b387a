"""Exported files say what their networks say: a small run of each task, and (slow) every model of the registry in both forms."""
import json, logging, sys, warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch

from lt_signals.io.signal_store import normalize_signals
from lt_signals.models.base import models
from lt_signals.tasks.amc import stored_temperatures
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.export import export_run
from lt_signals.runs.finished import load_finished
from lt_signals.runs.results import open_run

onnxruntime = pytest.importorskip('onnxruntime', reason="ONNX needs pip install 'lt_signals[export]'")
pytest.importorskip('onnxscript', reason="ONNX needs pip install 'lt_signals[export]'")

logging.getLogger('torch').setLevel(logging.WARNING)  # pytest would keep every line of the tracer

RUNS = dict(
    emitter=dict(data=dict(normalize='max'), synth=dict(n_classes=4, n_max=30, imbalance_ratio=5., n_valid=4, n_test=4),
                 stages=['stage1', 'crt', 'temperature'], stage2=dict(epochs=1), model=dict(name='FrequencyDomainExpert', options=dict(width=4))),
    amc=dict(amc=dict(n_per=12, length=64), model=dict(name='ResNet1D', options=dict(depth=2, width=8))),
    defects=dict(defects=dict(n=40, height=32, width=64), model=dict(name='resnet10_cbam')),
    detection=dict(detection=dict(scenes=4, size=16), model=dict(name='SiameseNet', options=dict(depth=2, width=4))))


def finish(folder, task):
    "A quick run, read again, and raw samples of it with those that its network was given."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        path = run_experiment(task=task, exp_name=task, out_dir=str(folder), seed=1, progress=False, device='cpu', training=dict(epochs=1),
                              visualization=dict(enabled=False), **RUNS[task]).path
    run, (_, dl, _) = load_finished(path, 'cpu'), open_run(path, 'cpu')
    x = dl.store.take(dl.indices[:20])
    gain = torch.logspace(-2, 1.5, len(x))[:, None, None] if task == 'emitter' else 1.
    return run, gain*x, x


def ask(file, x):
    "What a file says of a batch, by the name of the output."
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, {'samples': np.asarray(x, np.float32)}))), session.get_modelmeta().custom_metadata_map


@pytest.mark.parametrize('task', RUNS)
def test_onnx_says_what_the_run_says(tmp_path, task):
    run, raw, x = finish(tmp_path, task)
    file = export_run(run, tmp_path/'model.onnx', raw)
    assert file.difference < 1e-4 and file.samples == len(raw)
    right, warm = run.outputs(x), stored_temperatures(run.recipe.facts)
    for n in (1, 3, len(x)):
        said, facts = ask(file.path, raw[:n])
        for name, z in (right.items() if isinstance(right, dict) else [('', right)]):
            p = z.sigmoid() if task == 'defects' else (z/warm.get(name, 1.)).softmax(-1)
            start = f'{name}_' if name else ''
            assert np.abs(said[f'{start}probabilities'] - p[:n].numpy()).max() < 1e-4
            assert np.abs(said[f'{start}logits'] - z[:n].numpy()).max() < 1e-4*max(1, z.abs().max().item())
    assert facts['task'] == task and facts['weights_sha256'] == run.recipe.weights_sha256
    assert json.loads(facts['shape']) == list(run.recipe.shape) and json.loads(facts['groups']) == run.recipe.groups
    words = json.loads(facts['classes'])
    assert words[next(iter(words))] == run.classes
    assert [*words] == (['modulation', 'snr'] if task == 'amc' else ['label'])
    assert ('thresholds' in facts) == (task in ('defects', 'detection'))
    if task == 'emitter':
        assert torch.allclose(normalize_signals(raw, 'max'), x, atol=1e-6) and not torch.allclose(raw, x)
        again, _ = ask(file.path, 37*raw)  # the gain does not matter: it is normalised inside
        assert np.abs(again['probabilities'] - said['probabilities']).max() < 1e-4


def benchmark():
    "`benchmarks/export.py` as a module."
    spec = spec_from_file_location('bench_export', Path(__file__).parent.parent/'benchmarks'/'export.py')
    module = sys.modules['bench_export'] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFUSED = {('ReceiverNet', '.onnx'): 'complex-valued input'}  # ONNX has no complex numbers; a program of torch has


@pytest.mark.slow
@pytest.mark.parametrize('name', models)
def test_registry(name):
    bench = benchmark()
    net, shape = bench.network(name)
    for form, write in (('.pt2', bench.write_program), ('.onnx', bench.write_onnx)):
        row = bench.row(name, form, write, net, shape)
        if (name, form) in REFUSED: assert not row['scores']['exports'] and REFUSED[name, form] in row['why'], row
        else: assert row['scores']['exports'], row
