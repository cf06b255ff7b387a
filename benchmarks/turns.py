"""How fast, against what: ways to do one thing take turns in one process, and the ratio of their processor times is stored.

A round calls every way once, in an order drawn anew, so that all share the state of memory and the load of the machine; a ratio is the median over
the rounds, with its quartiles. Rows go to benchmarks/speed.json, one for a piece of work and a peer, which nbs/benchmarks shows.
"""
import os, random, time
from pathlib import Path

import numpy as np
import torch

from lt_signals.core.rows import Rows, machine_name

SPEED = Path(__file__).with_name('speed.json')


def seconds(f, cuda=False):
    "Seconds of one call: of the processor; on a GPU of the clock, until it is done."
    clock, wait = (time.perf_counter, torch.cuda.synchronize) if cuda else (time.process_time, lambda: None)
    wait()
    start = clock()
    f()
    wait()
    return clock() - start


def take_turns(ways, rounds=20, warm=2, cuda=False):
    "Seconds of each way, float (rounds,): `ways` is {name: function without arguments}."
    order, times = random.Random(0), {k: [] for k in ways}
    for i in range(warm + rounds):
        for k in order.sample([*ways], len(ways)):
            t = seconds(ways[k], cuda)
            if i >= warm: times[k].append(t)
    return {k: np.array(v) for k, v in times.items()}


def ratio(times, ours, peer):
    "How many times as long the peer takes: median and quartiles over the rounds."
    r = times[peer]/times[ours]
    return dict(zip(('low', 'ratio', 'high'), map(float, np.quantile(r, [.25, .5, .75]))))


def store(work, times, ours='ours', fair=None, goal=None, device='cpu', path=SPEED, **settings):
    "A row for each way but ours, beside which ours is measured; `fair` names the one that the page puts first."
    rows = Rows(path, device=machine_name(device))
    for peer in times:
        if peer == ours: continue
        scores = ratio(times, ours, peer) | dict(ours_ms=1e3*float(np.median(times[ours])),
                                                 peer_ms=1e3*float(np.median(times[peer])))
        rows.add(work, peer, None, scores, settings, fair=peer == fair, goal=goal if peer == fair else None)
        print(f'{work:48}{peer:40}{scores["ours_ms"]:10.2f} ms{scores["peer_ms"]:10.2f} ms'
              f'{scores["ratio"]:8.2f}x ({scores["low"]:.2f} to {scores["high"]:.2f})', flush=True)


def one_thread():
    "Everything on one thread, so that processor time is what one core needs."
    os.environ['OMP_NUM_THREADS'] = '1'
    torch.set_num_threads(1)
