"""The tests of the notebooks, each notebook in a process of its own.

A notebook defines anew what its module registers. In the shared processes of `nbdev_test` the next notebook would meet these
definitions in place of the library's; here every process is a fresh fork of one that has imported the slow libraries once.
Run: python tests/notebooks.py [name ...] [--workers 2] [--flags slow]
"""
import argparse, importlib, multiprocessing, os, sys, time, warnings
from multiprocessing.connection import wait

os.environ['IN_TEST'] = '1'
with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    import fastai.callback.all, fastai.learner, matplotlib.pyplot, pandas, scipy.signal, sklearn.metrics  # noqa: once, before the forks
    for name in ('torchvision', 'timm', 'sigmf', 'captum.attr', 'diffusers', 'pytorch_ood', 'torch._dynamo', 'hydra'):
        try: importlib.import_module(name)
        except ImportError: pass  # an extra that is not installed
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.test import test_nb


def run(path, **flags):
    "Test one notebook; the exit code says whether it passed."
    sys.exit(not test_nb(path, **flags)[0])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('names', nargs='*', help='parts of paths; all notebooks where none is given')
    p.add_argument('--workers', type=int, default=2)
    p.add_argument('--flags', nargs='*', default=[], help='test flags to run as well: slow')
    args = p.parse_args()
    cfg = get_config()
    paths = [f.absolute() for f in sorted(nbglob(cfg.nbs_path, as_path=True)) if not args.names or any(n in str(f) for n in args.names)]
    if not paths: sys.exit(f'no notebook has {" or ".join(args.names)} in its path')
    flags = dict(skip_flags=cfg.tst_flags.split(), force_flags=args.flags, basepath=cfg.config_path)
    context = multiprocessing.get_context('fork' if sys.platform == 'linux' else 'spawn')
    start, todo, running, failed = time.time(), list(paths), {}, []
    while todo or running:
        while todo and len(running) < args.workers:
            path = todo.pop(0)
            process = context.Process(target=run, args=(path,), kwargs=flags)
            process.start()
            running[process.sentinel] = path.relative_to(cfg.nbs_path), process, time.time()
        for sentinel in wait(list(running)):
            name, process, began = running.pop(sentinel)
            process.join()
            if process.exitcode: failed.append(name)
            print(f'{"FAIL" if process.exitcode else "ok  "} {str(name):36} {time.time()-began:4.0f} s', flush=True)
    print(f'{len(paths)-len(failed)} notebooks passed, {len(failed)} failed in {time.time()-start:.0f} s')
    if failed: sys.exit('failed: ' + ', '.join(map(str, failed)))


if __name__ == '__main__': main()
