import pytest

from tests.workflow.project import Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The shipped demo's workflow, run to the end on light stages. Not to be changed."""
    project = Project.create(tmp_path_factory.mktemp("finished"))
    project.run()
    project.work()
    return project


@pytest.fixture
def project(finished, tmp_path):
    return finished.copy(tmp_path)
