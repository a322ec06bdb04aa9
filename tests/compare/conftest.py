import multiprocessing.forkserver

import pytest

from gnnscale.compare.process import start_server


@pytest.fixture(scope="session", autouse=True)
def _server_of_cells():
    """Another test of this process may have started the server, for itself and with nothing imported: cells would
    take seconds to start, and time out."""
    multiprocessing.forkserver._forkserver._stop()
    start_server()
