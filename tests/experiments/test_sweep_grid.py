"""The points of a sweep, and their names."""

import pytest

from configs import defaults
from experiments import sweep_grid


def base():
    return defaults.get_config()


def names(grid):
    return [point.name for point in sweep_grid.make_points(base(), grid)]


def test_points_are_all_combinations_in_order():
    points = sweep_grid.make_points(
        base(), {"optimizer.learning_rate": (0.1, 1), "subspace.k": [5, 10, 3]}
    )
    assert [point.name for point in points] == [
        "learning_rate=0.1,k=5",
        "learning_rate=0.1,k=10",
        "learning_rate=0.1,k=3",
        "learning_rate=1.0,k=5",
        "learning_rate=1.0,k=10",
        "learning_rate=1.0,k=3",
    ]
    last = points[-1]
    assert last.fields == {"optimizer.learning_rate": 1.0, "subspace.k": 3}
    assert (last.config.optimizer.learning_rate, last.config.subspace.k) == (1.0, 3)
    assert last.config.is_locked
    assert points[0].config.optimizer.learning_rate == 0.1
    # All else is the base's, which stays as it is.
    config = last.config.to_dict()
    config["optimizer"]["learning_rate"] = base().optimizer.learning_rate
    config["subspace"]["k"] = base().subspace.k
    assert config == base().to_dict()


def test_several_grids_are_the_points_of_each_once():
    assert base().subspace.k == 10
    grids = [
        {"subspace.k": (5, 10)},
        {"subspace.k": (10,), "steps": (100, 20_000)},
        {"task.hidden_sizes": ((64, 32),)},
    ]
    assert names(grids) == [
        "k=5,steps=20000,hidden_sizes=None",
        "k=10,steps=20000,hidden_sizes=None",
        "k=10,steps=100,hidden_sizes=None",
        "k=10,steps=20000,hidden_sizes=64-32",
    ]


def test_names_are_as_long_as_it_takes_to_tell_fields_apart():
    fields = ["projection.dom", "claims.dom.text", "optimizer.b1", "title", "x.title"]
    assert sweep_grid.short_names(fields) == {
        "projection.dom": "dom",
        "claims.dom.text": "text",
        "optimizer.b1": "b1",
        "title": "title",
        "x.title": "x.title",
    }
    assert sweep_grid.short_names(["subspace.batch_size", "batch_size"]) == {
        "subspace.batch_size": "subspace.batch_size",
        "batch_size": "batch_size",
    }


def test_names_are_safe_and_tell_values_apart():
    texts = ["a/b", "a-b", "a%2Fb", "../up", "two words", "a=b,c=d", "ä", "x" * 400]
    found = names({"title": (*texts, "x" * 399 + "y")})
    assert len(set(found)) == len(texts) + 1
    for name in found:
        assert len(name) <= 200
        assert name.isascii()
        assert not set(name) & set("/\\ \"'$&*?;|<>:")
    assert found[0] == "title=a%2Fb"
    assert names({"optimizer.eps": (1e-8, 1e20)}) == ["eps=1e-08", "eps=1e+20"]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "varies no field"),
        ([], "varies no field"),
        ({"steps": ()}, "has no point"),
        ({"steps": 100}, r"values of steps must be .*, got 100"),
        ({"optimizer.name": "sgd"}, r"got 'sgd'; a single one is \('sgd',\)"),
        ({"learning_rate": (1.0,)}, "near ones: optimizer.learning_rate"),
        ({"subspace.kk": (1,)}, "unknown field 'subspace.kk'; near ones: .*subspace.k"),
        ({"qqqqqq": (1,)}, "known ones: batch_size, .*, title"),
        ({"optimizer": (1,)}, "unknown field 'optimizer'"),
        ({"steps": (10, 1.5)}, r"point steps=1\.5: .*1\.5"),
        ({"subspace.k": (2, "many")}, "point k=many: "),
    ],
)
def test_impossible_grids_are_refused(grid, message):
    with pytest.raises(ValueError, match=message):
        sweep_grid.make_points(base(), grid)
