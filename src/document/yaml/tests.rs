use proptest::prelude::*;

use super::*;

fn why(text: &str) -> String {
    documents(text).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn values_know_line_column_and_octets() {
    let text = "a: 1\r\nä: 'x'\r\nlist:\r\n- \"two words\" # c\r\n";
    let doc = documents(text).unwrap().remove(0);
    let x = doc.get("ä").unwrap();
    assert_eq!((x.place, x.text()), (Position { line: 2, column: 4 }, Some("x")));
    assert_eq!(&text[x.span.clone().unwrap()], "'x'");
    let item = &doc.get("list").unwrap().list().unwrap()[0];
    assert_eq!(item.place, Position { line: 4, column: 3 });
    assert_eq!(&text[item.span.clone().unwrap()], "\"two words\"");
}

#[test]
fn what_two_programs_read_in_two_ways_is_refused() {
    assert!(why("a: 1\nb: 2\na: 3\n").contains("line 3, column 1: `a` stands here a second"));
    assert!(why("x: &x {a: 1}\ny: {<<: *x}\n").contains("merge keys"));
    assert!(why("? [a]\n: b\n").contains("a key must be a text"));
    assert!(why("a: !!binary aGk=\n").contains("tags"));
    assert!(why("a: &a [*a]\n").contains("alias"), "{}", why("a: &a [*a]\n"));
    assert!(why("a:\n\t- b\n").starts_with("line 2"), "{}", why("a:\n\t- b\n"));
    assert!(why(&"[".repeat(100_000)).contains("line 1"));
}

#[test]
fn an_alias_bomb_is_stopped() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let list = vec![format!("*a{}", i - 1); 10].join(", ");
        text.push_str(&format!("a{i}: &a{i} [{list}]\n"));
    }
    assert!(why(&text).contains("aliases counted"));
}

#[test]
fn null_is_nothing_unless_quoted() {
    let doc = documents("a: null\nb: 'null'\nc:\nd: ''\n").unwrap().remove(0);
    assert!(doc.get("a").is_none() && doc.get("c").is_none());
    assert_eq!(doc.get("b").and_then(Node::text), Some("null"));
    assert_eq!(doc.get("d").and_then(Node::text), Some(""));
}

#[test]
fn what_other_parsers_take_for_numbers_or_booleans_is_quoted() {
    for text in [
        "yes",
        "No",
        "on",
        "OFF",
        "y",
        "N",
        "true",
        "null",
        "~",
        "",
        "1_000",
        "0x1f",
        "1e3",
        "1.5",
        "12",
        "190:20:30",
        "2020-01-01",
        "<<",
        "=",
        "- a",
        "a: b",
        "a #b",
        "*a",
        "&a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "a:",
        " a",
        "a ",
        "\u{85}",
        "\u{feff}",
        "0o14",
        ".inf",
        "-1",
        "+1",
        "-",
        "...",
    ] {
        assert!(scalar(text).starts_with('"'), "{text:?}");
    }
    for text in ["prod", "10.0.0.1", "10.96.0.0/12", "30d", "a:b@c", "/etc/x", "LS0tLS1=="] {
        assert_eq!(scalar(text), text);
    }
}

proptest! {
    #[test]
    fn scalars_read_back(text in prop_oneof![any::<String>(), "[-a-zA-Z0-9_.:/+=@<>~ ]{0,12}"]) {
        for yaml in [format!("k: {}\n", scalar(&text)), format!("{{k: [{}, x]}}\n", scalar(&text))] {
            let doc = documents(&yaml).unwrap().remove(0);
            let node = doc.get("k").unwrap();
            let node = node.list().map_or(node, |items| &items[0]);
            prop_assert_eq!(node.text(), Some(text.as_str()));
        }
    }
}
