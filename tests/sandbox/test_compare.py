"""When is what a program gave what was expected?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.problem import CompareKind, Comparison
from gasp_rl.sandbox.compare import same_output, same_value


@pytest.mark.parametrize(
    ("got", "expected", "same"),
    [
        ("1 2\n", "1 2", True),
        ("  1 2  \n 3\n\n", "1 2\n3", True),
        ("1\n2", "1 2", False),  # lines count
        ("1  2", "1 2", True),  # as the same decimal tokens
        ("1.50 2", "1.5 2.0", True),
        ("0.30000000000000004", "0.3", False),  # decimals, not floats
        ("1e3", "1000", True),
        ("yes  no", "yes no", False),
        ("Yes", "yes", False),
        ("1", "1\n2", False),
        ("", "", True),
        ("nan", "nan", True),
    ],
)
def test_standard_output_is_compared_by_the_lines_rule_of_livecodebench(got: str, expected: str, same: bool) -> None:
    assert same_output(got, expected, Comparison()) is same


@pytest.mark.parametrize(
    ("got", "expected", "same"),
    [
        ("0.3000001", "0.3", True),
        ("0.31", "0.3", False),
        ("1\n2", "1 2", True),  # only tokens count
        ("yes 1.0000001", "yes 1", True),
        ("no 1", "yes 1", False),
        ("1", "1 1", False),
        ("nan", "1", False),
        ("inf", "inf", True),
    ],
)
def test_tokens_may_differ_by_the_tolerance(got: str, expected: str, same: bool) -> None:
    assert same_output(got, expected, Comparison(CompareKind.FLOAT_TOKENS, atol=1e-6)) is same


FLOAT = Comparison(CompareKind.FLOAT, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("compare", "got", "expected", "same"),
    [
        (Comparison(), [1, 2], [1, 2], True),
        (Comparison(), [1, 2], [2, 1], False),
        (FLOAT, [1.0, (2.0000001, "a")], [1, [2, "a"]], True),
        (FLOAT, [1.1], [1], False),
        (FLOAT, 1, True, True),  # plain ==, since a bool is no number
        (FLOAT, 1.0000001, True, False),
        (FLOAT, "a", "a", True),
        (FLOAT, float("nan"), 1.0, False),
        (FLOAT, [1], [1, 1], False),
        (FLOAT, 10**400, 1.0, False),  # no float
        (FLOAT, 1.0, 10**400, False),
        (FLOAT, 10**400, 10**400, True),
        (FLOAT, float("inf"), 10**400, False),
        (FLOAT, 1.0, float("inf"), False),  # within no tolerance
        (Comparison(CompareKind.SET), [2, 1, 1], [1, 2], True),
        (Comparison(CompareKind.SET), [1], [1, 2], False),
        (Comparison(CompareKind.SET), 1, 1, False),
        (Comparison(CompareKind.SET), [[1]], [[1]], False),  # unhashable, so no set
        (Comparison(CompareKind.TRUTHY), [0], True, True),
        (Comparison(CompareKind.TRUTHY), None, 0, True),
        (Comparison(CompareKind.TRUTHY), "", True, False),
    ],
)
def test_a_returned_value_is_compared_as_the_problem_says(
    compare: Comparison, got: object, expected: object, same: bool
) -> None:
    assert same_value(got, expected, compare) is same


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.just(10**400)
    | st.floats(allow_nan=False)
    | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=6,
)


@given(json_values)
def test_every_value_is_exactly_and_closely_itself(value: object) -> None:
    assert same_value(value, value, Comparison())
    assert same_value(value, value, FLOAT)
    assert same_value(value, value, Comparison(CompareKind.TRUTHY))


@given(
    json_values | st.floats(),
    json_values | st.floats(),
    st.sampled_from([Comparison(), FLOAT, *map(Comparison, CompareKind)]),
)
def test_no_value_is_too_strange_to_be_compared(got: object, expected: object, compare: Comparison) -> None:
    assert same_value(got, expected, compare) in {True, False}


@given(st.text("0159.eE+-_nNaisNfty \n", max_size=12), st.text("0159.eE+-_nNaisNfty \n", max_size=12))
def test_no_output_is_too_strange_to_be_compared(got: str, expected: str) -> None:
    for compare in (Comparison(), Comparison(CompareKind.FLOAT_TOKENS, rtol=1e-6)):
        assert same_output(got, expected, compare) in {True, False}
