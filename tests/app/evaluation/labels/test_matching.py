"""Folders find the class that people mean by them, however they write it, and never another one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.evaluation.errors import DataError
from app.evaluation.labels.matching import match_folders
from app.models.labels import ClassNames

DOGS = ClassNames(("beagle", "golden retriever", "St. Bernard, saint bernard", "carpenter's kit"))
WITH_IDS = ClassNames(DOGS.names, ("n02088364", "n02099601", "n02109525", "n02966687"))
IN_NAMES = ClassNames(
    tuple(f"{word_net_id} {name}" for word_net_id, name in zip(WITH_IDS.ids, DOGS.names, strict=True))
)
CIFAR = ClassNames(("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"))
TWELVE = ClassNames(tuple(f"kind {letter}" for letter in "abcdefghijkl"))
NAMELESS = ClassNames(tuple(f"class {i}" for i in range(12)))


def matches(folders: list[str], classes: ClassNames, *, skip: bool = False) -> dict[str, int]:
    return match_folders(folders, classes, skip_unknown=skip).numbers


def refused(folders: list[str], classes: ClassNames, *, skip: bool = False) -> DataError:
    with pytest.raises(DataError) as caught:
        match_folders(folders, classes, skip_unknown=skip)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("classes", [DOGS, WITH_IDS, IN_NAMES], ids=["names", "names-and-ids", "ids-in-names"])
@pytest.mark.parametrize(
    ("folder", "number"),
    [
        ("golden retriever", 1),
        ("Golden Retriever", 1),
        ("golden_retriever", 1),
        ("golden-retriever", 1),
        ("GOLDEN__RETRIEVER ", 1),
        ("GoldenRetriever", 1),
        ("n02099601 golden retriever", 1),
        ("n02099601-golden_retriever", 1),
        ("St. Bernard", 2),
        ("st_bernard", 2),
        ("Saint-Bernard", 2),
        ("St. Bernard, saint bernard", 2),
        ("carpenters_kit", 3),
        ("carpenter’s kit", 3),  # as a text processor writes it
    ],
)
def test_spelling_variants_match_the_same_class(classes: ClassNames, folder: str, number: int) -> None:
    assert matches([folder], classes) == {folder: number}


@pytest.mark.parametrize("classes", [WITH_IDS, IN_NAMES], ids=["beside-names", "in-names"])
def test_wordnet_ids_match_labels_with_ids(classes: ClassNames) -> None:
    folders = ["n02966687", "N02099601", "n02088364"]
    assert matches(folders, classes) == {"n02966687": 3, "N02099601": 1, "n02088364": 0}
    assert "'n09999999' is not a class" in refused(["n09999999", "beagle"], classes).message
    assert "matches the classes 0 ('" in refused(["n02088364 golden retriever"], classes).message, (
        "it contradicts itself"
    )
    # Of that name, and by its id another one.
    assert "'n09999999_beagle' is not a class" in refused(["n09999999_beagle"], classes).message


def test_a_wordnet_id_resolves_classes_of_equal_name() -> None:
    names = ("crane", "crane", "maillot", "maillot, tank suit")
    classes = ClassNames(names, ("n02012849", "n03126707", "n03710637", "n03710721"))
    folders = ["n02012849_crane", "n03126707 crane", "n03710721_maillot", "n03710637-Maillot"]
    assert list(matches(folders, classes).values()) == [0, 1, 3, 2]


def test_wordnet_ids_without_ids_in_labels_are_refused() -> None:
    error = refused(["n02099601", "n02088364"], DOGS)
    assert "are not classes" in error.message
    assert "class_index.json" in error.hint
    cifar = ["n02691156", "n02958343", "n01503061", "n02121620", "n02430045"]
    cifar += ["n02084071", "n01639765", "n02374451", "n04194289", "n04490091"]
    refused(cifar, CIFAR)  # as many as classes; their order is another one


def test_all_thousand_ids_of_imagenet_are_numbered_by_their_order() -> None:
    ids = ["n01440764", *(f"n0{1500000 + 1000 * i}" for i in range(998)), "n15075141"]
    nameless = ClassNames(tuple(f"class {i}" for i in range(1000)))
    shuffled = ids[::-1]
    assert matches(shuffled, nameless) == {word_net_id: i for i, word_net_id in enumerate(ids)}
    refused(ids[:-1], nameless)
    refused([*ids[:-1], "n15075142"], nameless)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("classes", [CIFAR, NAMELESS, TWELVE], ids=["names", "nameless", "twelve"])
def test_digit_folders_are_class_indices(width: int, classes: ClassNames) -> None:
    folders = sorted(f"{i:0{width}}" for i in range(len(classes.names)))
    assert matches(folders, classes) == {folder: int(folder) for folder in folders}


@pytest.mark.parametrize("order", [range(12), range(11, -1, -1), range(1, 13)], ids=["same", "reversed", "from-1"])
@pytest.mark.parametrize("width", [1, 2])
def test_digit_folders_match_numeric_labels_by_name(order: range, width: int) -> None:
    classes = ClassNames(tuple(str(i) for i in order))
    folders = sorted(f"{i:0{width}}" for i in order)
    assert matches(folders, classes) == {folder: order.index(int(folder)) for folder in folders}
    assert "'77' is not a class" in refused([*folders, "77"], classes).message


def test_digit_folders_outside_the_classes_are_refused() -> None:
    from_one = [str(i) for i in range(1, 11)]
    for skip in (False, True):
        assert (
            "numbered from 1 to 10, but the model's 10 classes from 0 to 9"
            in refused(from_one, CIFAR, skip=skip).message
        )
    assert "'10', '11' are not classes" in refused([str(i) for i in range(12)], CIFAR).message
    assert len(matches([str(i) for i in range(12)], CIFAR, skip=True)) == 10
    # A number beside names is no number of a class.
    assert "'7' is not a class" in refused(["cat", "dog", "7"], CIFAR).message
    assert matches(["cat", "dog", "7"], CIFAR, skip=True) == {"cat": 3, "dog": 5}
    assert "'1' and '01' are the same class" in refused(["1", "01"], CIFAR).message
    mixed = ClassNames(("zero", "7", "two"))
    assert "matches the classes 1 ('7')" in refused(["7"], ClassNames((*mixed.names, *"abcd", "seven"))).message
    assert matches(["7", "two"], mixed) == {"7": 1, "two": 2}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("form", ["{}_{}", "{:03}.{}", "{} {}", "{:02}-{}"])
def test_a_number_before_a_name_must_be_its_index_or_one_more(form: str, first: int) -> None:
    folders = [form.format(i + first, name.capitalize()) for i, name in enumerate(CIFAR.names)]
    assert list(matches(folders, CIFAR).values()) == list(range(10))
    assert "are not classes" in refused([form.format(i + 2, name) for i, name in enumerate(CIFAR.names)], CIFAR).message
    numbered = ClassNames(tuple(folders))
    assert list(matches(list(CIFAR.names), numbered).values()) == list(range(10))


def test_placeholder_labels_match_no_names() -> None:
    assert matches(["class_3", "CLASS 11"], NAMELESS) == {"class_3": 3, "CLASS 11": 11}
    error = refused(["cat", "dog"], NAMELESS)
    assert "give --labels FILE, or name folders 0 to 11" in error.hint
    assert "--skip-unknown" not in error.hint, "nothing would be left"
    refused(["cat", "dog"], NAMELESS, skip=True)


def test_imagenet_synonyms_match() -> None:
    classes = ClassNames(("tench, Tinca tinca", "crane", "crane", "maillot", "maillot, tank suit"))
    assert matches(["Tinca_tinca", "tank suit"], classes) == {"Tinca_tinca": 0, "tank suit": 4}
    assert matches(["maillot", "maillot, tank suit"], classes) == {"maillot": 3, "maillot, tank suit": 4}
    # Exactly so one class is called; in another spelling it may be either.
    assert (
        "'Maillot' is ambiguous: it matches the classes 3 ('maillot'), 4 ('maillot, tank suit')"
        in refused(["Maillot"], classes).message
    )
    assert matches(["Maillot, Tank suit"], classes) == {"Maillot, Tank suit": 4}
    assert (
        "'crane' is ambiguous: it matches the classes 1 ('crane'), 2 ('crane')" in refused(["crane"], classes).message
    )
    assert "'tench' and 'Tinca tinca' are the same" in refused(["tench", "Tinca tinca"], classes).message
    assert matches(["tench, Tinca tinca"], ClassNames(("tench", "goldfish"))) == {"tench, Tinca tinca": 0}
    assert "is ambiguous" in refused(["tench, goldfish"], ClassNames(("tench", "goldfish"))).message


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (["A-"], ("A", "A+")),
        (["A+"], ("A", "B")),
        (["1.5"], ("15", "x")),
        (["item 1 2"], ("item 12", "x")),
        (["cats"], ("cat", "dog")),
        (["not cat"], ("cat", "dog")),
        (["cat 2"], ("cat", "dog")),
        (["-"], ("---", "...")),
    ],
    ids="-".join,
)
def test_similar_names_of_other_classes_are_refused(folders: list[str], classes: tuple[str, ...]) -> None:
    assert "not a class" in refused(folders, ClassNames(classes)).message


def test_classes_equal_after_normalization_match_exactly_or_are_refused() -> None:
    classes = ClassNames(("Cat", "cat", "sea lion", "sealion"))
    assert matches(["cat", "Cat", "sea_lion", "Sealion"], classes) == {"cat": 1, "Cat": 0, "sea_lion": 2, "Sealion": 3}
    assert "matches the classes 0 ('Cat'), 1 ('cat')" in refused(["CAT"], classes).message


@pytest.mark.parametrize("folder", ["tank_vehicle", "Tank-Vehicle", "tank vehicle"])
def test_replacements_for_characters_invalid_in_paths_match(folder: str) -> None:
    assert matches([folder], ClassNames(("tank", "tank/vehicle", "vehicle"))) == {folder: 1}
    assert matches([folder], ClassNames(("tank: vehicle", "other"))) == {folder: 0}


def test_unicode_composition_does_not_matter() -> None:
    assert matches(["cafe\u0301_au_lait"], ClassNames(("Café au lait", "tea"))) == {"cafe\u0301_au_lait": 0}
    assert "not a class" in refused(["cafe au lait"], ClassNames(("Café au lait", "tea"))).message


def test_a_close_name_is_suggested() -> None:
    assert "did you mean 'automobile' by 'automobil'?" in refused(["automobil", "cat"], CIFAR).hint


ANIMALS = ("ant", "bee", "cow", "elk", "fox", "gnu", "hen")
WORDS = st.lists(st.sampled_from(ANIMALS), min_size=1, max_size=3, unique=True)
SPELLINGS = (
    str,
    str.upper,
    str.title,
    lambda name: name.replace(" ", "_"),
    lambda name: name.replace(" ", "-").capitalize(),
    lambda name: name.replace(" ", "__").title(),
    lambda name: f" {name.replace(' ', '  ')}_",
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=8, unique=True), st.data())
def test_any_spelling_of_any_class_matches_it(names: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    folders = [data.draw(st.sampled_from(SPELLINGS))(name) for name in chosen]
    assert list(matches(folders, ClassNames(tuple(names))).values()) == [names.index(name) for name in chosen]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(WORDS.map(" ".join), min_size=2, max_size=8, unique=True), st.randoms())
def test_a_missing_class_never_matches_another(names: list[str], chance: random.Random) -> None:
    lacking = chance.choice(names)
    classes = ClassNames(tuple(name for name in names if name != lacking))
    assert repr(lacking) in refused(names, classes).message
    assert lacking not in matches(names, classes, skip=True)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=8, unique=True), st.randoms())
def test_the_order_of_folders_does_not_matter(names: list[str], chance: random.Random) -> None:
    classes = ClassNames(tuple(names), tuple(f"n{i:08}" for i in range(len(names))))
    folders = [chance.choice((name, word_net_id)) for name, word_net_id in zip(*classes, strict=True)]
    shuffled = chance.sample(folders, len(folders))
    assert matches(shuffled, classes) == matches(folders, classes) == {folder: i for i, folder in enumerate(folders)}
