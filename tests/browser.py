"""Voila and a headless Chromium for tests of widgets.

    with serve(write_notebook(tmp_path/'app.ipynb', 'from x import y', 'y()')) as url, page(url) as p:
        ...                                                  # p is playwright's Page, its widgets drawn

`serve` gives the address of a notebook, `page` a page that shows it. Both skip the test, saying why, where voila,
playwright or Chromium is absent. The environment variable CHROMIUM names a browser that is not on the path.
"""
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

_names = 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'
_switches = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
             '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage']


def chromium():
    "Path of the browser; skips the test where there is none."
    found = next(filter(None, map(shutil.which, filter(None, (os.environ.get('CHROMIUM'), *_names)))), None)
    return found or pytest.skip('Chromium is not installed (or set CHROMIUM to a browser of its kind)')


def need():
    "Skip the test where something that it runs is absent."
    for m in ('voila', 'ipywidgets', 'ipykernel', 'playwright'):
        pytest.importorskip(m, reason=f'{m} is not installed (pip install voila ipywidgets ipykernel playwright)')
    chromium()


def write_notebook(path, *cells):
    "A notebook of code cells, for `serve`; its path."
    nbformat = pytest.importorskip('nbformat', reason='nbformat (part of voila) is not installed')
    v4, path = nbformat.v4, Path(path)
    meta = dict(kernelspec=dict(name='python3', display_name='python3', language='python'))
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(c) for c in cells], metadata=meta), path)
    return path


def free_port():
    "A port of this machine that nobody listens on."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def _listens(port):
    try:
        with socket.create_connection(('127.0.0.1', port), timeout=5): return True
    except OSError: return False


@contextmanager
def serve(notebook, timeout=60, **env):
    "The address of a notebook that voila serves meanwhile; `env` are further environment variables of its kernel."
    need()
    notebook, port = Path(notebook).resolve(), free_port()
    root = str(Path(__file__).resolve().parents[1])
    env = {**os.environ, 'JUPYTER_PREFER_ENV_PATH': '1', 'OMP_NUM_THREADS': '1',
           'PYTHONPATH': os.pathsep.join(filter(None, (root, os.environ.get('PYTHONPATH')))),
           'PATH': os.pathsep.join((str(Path(sys.executable).parent), os.environ['PATH'])), **env}
    command = [sys.executable, '-m', 'voila', str(notebook), '--no-browser', f'--port={port}',
               '--Voila.ip=127.0.0.1', '--show_tracebacks=True']
    with open(notebook.with_suffix('.log'), 'w+') as log:
        server = subprocess.Popen(command, cwd=notebook.parent, env=env, stdout=log, stderr=log,
                                  start_new_session=True)
        end = time.monotonic() + timeout
        try:
            while not _listens(port):
                if server.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise RuntimeError(f'voila did not start:\n{log.read()[-3000:]}')
                time.sleep(.1)
            yield f'http://127.0.0.1:{port}/'
        finally:
            _stop(server)


def _stop(server):
    "End voila and its kernels."
    for s in (signal.SIGTERM, signal.SIGKILL):
        if server.poll() is None:
            os.killpg(server.pid, s)
            try: server.wait(10)
            except subprocess.TimeoutExpired: continue
    try: os.killpg(server.pid, signal.SIGKILL) # kernels that outlive the server
    except (ProcessLookupError, PermissionError): pass


@contextmanager
def page(url, width=1300, height=900, timeout=120, ready='.widget-slider, .widget-button'):
    "A page of headless Chromium at `url`, once something that `ready` selects is there; seconds to wait at most."
    need()
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=_switches)
        try:
            tab = browser.new_page(viewport=dict(width=width, height=height))
            tab.set_default_timeout(1000*timeout)
            tab.goto(url)
            tab.wait_for_selector(ready)
            yield tab
        finally:
            browser.close()
