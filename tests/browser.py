"""Voila and a headless Chromium for tests of widgets.

    with serve(write_notebook(tmp_path/'app.ipynb', 'from x import y', 'y()')) as url, page(url) as p:
        ...                                                  # p is playwright's Page, its widgets drawn

`serve` gives the address of a notebook that voila serves, `serve_lab` of one in JupyterLab, `page` a page that shows it and
fails where the console has an error. They skip the test, saying why, where voila, JupyterLab, playwright or Chromium is absent. The environment variable CHROMIUM names a browser that is not on the path.
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
def serve(notebook, timeout=300, **env):
    "The address of a notebook that voila serves meanwhile; `env` are further environment variables of its kernel."
    need()
    port = free_port()
    command = ['voila', str(Path(notebook).resolve()), '--no-browser', f'--port={port}', '--Voila.ip=127.0.0.1',
               '--show_tracebacks=True']
    with _server(command, notebook, port, timeout, env): yield f'http://127.0.0.1:{port}/'


@contextmanager
def serve_lab(notebook, timeout=300, **env):
    "The address of a notebook in JupyterLab, which is served meanwhile; `run_all` runs its cells."
    need()
    pytest.importorskip('jupyterlab', reason='jupyterlab is not installed (pip install jupyterlab)')
    port, notebook = free_port(), Path(notebook).resolve()
    home = notebook.parent/'.jupyter' # settings and workspaces of nobody else
    news = home/'settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings'
    news.parent.mkdir(parents=True, exist_ok=True)
    news.write_text('{"fetchNews": "false"}') # a question in the corner hides what lies there
    env = {'JUPYTER_CONFIG_DIR': str(home), 'JUPYTERLAB_SETTINGS_DIR': str(home/'settings'),
           'JUPYTERLAB_WORKSPACES_DIR': str(home/'workspaces'), **env}
    command = ['jupyterlab', '--no-browser', f'--port={port}', '--ServerApp.ip=127.0.0.1', '--IdentityProvider.token=',
               f'--ServerApp.root_dir={notebook.parent}', '--LabApp.expose_app_in_browser=True', '--allow-root',
               '--LabApp.news_url=None', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate']
    with _server(command, notebook, port, timeout, env): yield f'http://127.0.0.1:{port}/lab/tree/{notebook.name}?reset'


def run_all(tab):
    "Run the cells of the notebook that JupyterLab shows."
    tab.wait_for_selector('.jp-Notebook .jp-Cell')
    tab.wait_for_function("""(() => { // before its kernel is connected, running does nothing and says nothing
        const shown = window.jupyterapp?.shell.currentWidget;
        return shown?.context?.isReady && shown.sessionContext?.isReady && shown.sessionContext.session?.kernel?.status == 'idle';
    })()""")
    tab.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")


@contextmanager
def _server(command, notebook, port, timeout, env):
    "A server of Jupyter that runs meanwhile."
    notebook = Path(notebook).resolve()
    root = str(Path(__file__).resolve().parents[1])
    env = {**os.environ, 'JUPYTER_PREFER_ENV_PATH': '1', 'OMP_NUM_THREADS': '1',
           'PYTHONPATH': os.pathsep.join(filter(None, (root, os.environ.get('PYTHONPATH')))),
           'PATH': os.pathsep.join((str(Path(sys.executable).parent), os.environ['PATH'])), **env}
    with open(notebook.with_suffix('.log'), 'w+') as log:
        server = subprocess.Popen([sys.executable, '-m', *command], cwd=notebook.parent, env=env, stdout=log, stderr=log,
                                  start_new_session=True)
        end = time.monotonic() + timeout
        try:
            while not _listens(port):
                if server.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise RuntimeError(f'{command[0]} did not start:\n{log.read()[-3000:]}')
                time.sleep(.1)
            yield
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


def _offline(text):
    "Whether an error says only that fonts and the like cannot be fetched without a network."
    return text.startswith('Failed to load resource: net::ERR_') and 'CONNECTION_REFUSED' not in text


@contextmanager
def page(url, width=1300, height=900, timeout=300, ready='.widget-slider, .widget-button'):
    """A page of headless Chromium at `url`, once something that `ready` selects is there; seconds to wait at most.
    In JupyterLab its cells are run. An error in the console fails the test."""
    need()
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=_switches)
        try:
            tab = browser.new_page(viewport=dict(width=width, height=height))
            tab.set_default_timeout(1000*timeout)
            errors = []
            tab.on('console', lambda m: errors.append(m.text) if m.type == 'error' and not _offline(m.text) else None)
            tab.on('pageerror', lambda e: errors.append(str(e)))
            tab.goto(url)
            if '/lab/' in url: run_all(tab)
            tab.wait_for_selector(ready)
            yield tab
            assert not errors, f'errors in the console: {errors}'
        finally:
            browser.close()
