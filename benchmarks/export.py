"""Which models of the registry can be written as ONNX and as a program of torch.export, how large the files are and how near.

    python benchmarks/export.py [model …]      writes benchmarks/export.json, a row for each model and form; given models replace their rows

Networks are small (the `example` of the registry), untrained, in evaluation mode; signals have a length that is no power of two. What the page says of speed was measured on one thread of a CPU."""
import sys, tempfile, time
from pathlib import Path

import numpy as np
import onnxruntime, torch
from torch import nn

from lt_signals.core.rows import machine_name, package_versions, Rows
from lt_signals.models.base import create_model, models
from lt_signals.models.layers import count_parameters
from lt_signals.runs.export import first_cause, RawNetwork, tolerance, trial_samples, write_onnx, write_program

place = Path(__file__).with_suffix('.json')
recurrent = ('MCLDNN', 'LSTM2', 'GRU2', 'PETCGDNN', 'CGDNet') # traced step by step: short signals


class Logits(nn.Module):
    "A comparison with a gallery as a network."
    def __init__(self, model): super().__init__(); self.model = model
    def forward(self, x): return self.model.logits(x)


def network(name):
    "A model of the registry from raw samples on, and the shape of a sample."
    info = models.info[name]
    torch.manual_seed(0)
    crop = info['input'] == 'crop'
    model = create_model(name, 5, 1 if crop else 2, **info.get('example', {})).eval()
    n = 200 if name in ('PETCGDNN', 'CGDNet') else 40 if name in recurrent else 1000
    shape = (1, 32, 32) if crop else (2, n)
    if info.get('gives') == 'points':
        model.set_gallery((torch.rand(40, *shape), torch.arange(40) % 5))
        model = Logits(model)
    return RawNetwork(model, 'none' if crop else 'rms').eval(), shape


def fastest(f, n=9):
    "Least seconds of a call."
    times = []
    for _ in range(n):
        t = time.perf_counter(); f(); times.append(time.perf_counter() - t)
    return min(times)


def row(name, form, write, net, shape):
    "What came of one model and one form: a row."
    x, facts = trial_samples(shape), dict(data='example', method=name, seed=0, settings=dict(form=form), shape=list(shape))
    with tempfile.TemporaryDirectory() as tmp, torch.no_grad():
        path, start = Path(tmp)/f'model{form}', time.perf_counter()
        try: d = write(net, x, path, {})
        except Exception as e:
            return dict(facts, scores=dict(exports=False), why=first_cause(e)[:200])
        scores = dict(exports=d <= tolerance, difference=d, bytes=path.stat().st_size)
        facts.update(scores=scores, seconds=round(time.perf_counter() - start, 1), parameters=count_parameters(net))
        if form == '.onnx':
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            file = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
            scores.update(ms_torch=1e3*fastest(lambda: net(x)), ms_onnx=1e3*fastest(lambda: file.run(None, {'samples': x.numpy()})))
    return facts


def main(names):
    "Try the models, and write a row after each."
    torch.set_num_threads(1)
    rows = Rows(place, device=machine_name())
    rows.facts['versions'] |= package_versions(['onnxruntime'])
    for name in names or list(models):
        net, shape = network(name)
        for form,write in (('.pt2', write_program), ('.onnx', write_onnx)):
            r = rows.add(**row(name, form, write, net, shape))
            print(name, form, r['scores'], f'{r.get("seconds", 0)} s', flush=True)


if __name__ == '__main__': main(sys.argv[1:])
