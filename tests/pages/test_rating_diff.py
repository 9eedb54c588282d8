from pages._ui.rating_diff import build_diff


def test_changed_words_stand_beside_each_other() -> None:
    (row,) = build_diff("Two and two is five.", "Two and two is four, I think.")
    assert row.old == ((False, "Two and two is "), (True, "five"), (False, "."))
    assert row.new is not None
    assert "".join(text for _, text in row.new) == "Two and two is four, I think."
    assert row.new[1][0]


def test_lines_added_and_removed_stand_alone_and_equal_stretches_are_cut() -> None:
    old = [f"line {number}" for number in range(20)]
    new = [*old[:10], "fresh", *old[10:19]]
    rows = build_diff("\n".join(old), "\n".join(new))
    assert rows[0].num_hidden == 8
    assert [row for row in rows if row.old is None and row.new] == [rows[3]]
    assert rows[3].new == ((True, "fresh"),)
    assert rows[-1].new is None
    assert rows[-1].old == ((True, "line 19"),)
    assert build_diff("same", "same")[0].old == ((False, "same"),)


def test_texts_come_back_whole_with_emoji_and_right_to_left() -> None:
    old, new = "שלום 👩‍👩‍👧 עולם\n\nb", "שלום 👨‍👧 עולם\nb"
    rows = build_diff(old, new)
    assert "\n".join("".join(text for _, text in row.old) for row in rows if row.old) == old
    assert "\n".join("".join(text for _, text in row.new) for row in rows if row.new) == new


def test_one_word_changed_in_a_very_long_line_is_found() -> None:
    words = "word " * 100_000
    (row,) = build_diff(words + "old " + words, words + "new " + words)
    assert row.old is not None
    assert [text for differs, text in row.old if differs] == ["old"]


def test_long_texts_without_anything_in_common_are_changed_as_a_whole() -> None:
    (row,) = build_diff("one " * 5_000, "two " * 5_000)
    assert row.old == ((True, ("one " * 5_000).rstrip()), (False, " "))
