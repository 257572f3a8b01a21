from typing import get_args

import pytest

from expportrait.errors import UserError
from expportrait.estimators.geometry.registry import ESTIMATORS, load_estimator
from expportrait.estimators.geometry.versions import VERSIONS
from expportrait.settings.config import GeometrySettings, HeadSettings
from expportrait.settings.known_files import KNOWN
from expportrait.settings.weights import GEOMETRY_FILES


def test_settings_registry_and_classes_have_the_same_names():
    names = get_args(GeometrySettings.model_fields["estimator"].annotation)
    assert sorted(names) == sorted(ESTIMATORS) == sorted(VERSIONS)
    assert {name: cls.name for name, cls in ESTIMATORS.items()} == {name: name for name in names}


def test_files_belong_to_estimators_and_are_settings():
    assert GEOMETRY_FILES.keys() <= ESTIMATORS.keys()
    for sets in GEOMETRY_FILES.values():
        assert {part for parts in sets for part in parts} <= GeometrySettings.model_fields.keys()


@pytest.mark.parametrize("name", GEOMETRY_FILES)
def test_every_file_that_is_asked_for_has_a_source(name):
    parts = GEOMETRY_FILES[name][0]
    for given in parts:
        others = {part: f"{part}.file" for part in parts if part != given}
        with pytest.raises(UserError, match=rf"geometry\.{given} is empty: take .*fetch-weights {name}-"):
            load_estimator(name, HeadSettings(), GeometrySettings(estimator=name, **others), "cpu")


def test_known_files_are_for_estimators_that_take_files():
    for file in KNOWN:
        section, setting = file.key.split(".")
        if section == "geometry":
            name = file.set.split("-")[0]
            assert any(setting in parts for parts in GEOMETRY_FILES[name])


def test_a_name_that_is_none_is_refused():
    with pytest.raises(UserError, match="no estimator is called 'crystal ball', only david, sapiens, embedded"):
        load_estimator("crystal ball", HeadSettings(), GeometrySettings(), "cpu")
