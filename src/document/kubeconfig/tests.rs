use std::{fs, path::Path};

use super::*;

#[test]
fn spans() {
    for t in [
        "a: |\n  xx\n  yy\nb: 1\n",
        "a: >-   # c\n    xx\nb: 1\n",
        "- a: |2-\n    xx\n\n\n# c\n- b\n",
    ] {
        let d = yaml::documents(t).unwrap();
        let n = d[0]
            .get("a")
            .cloned()
            .unwrap_or_else(|| d[0].list().unwrap()[0].get("a").unwrap().clone());
        println!("{t:?} {:?} {:?} {:?}", n.span, &t[n.span.clone().unwrap()], n.place);
    }
    panic!();
}
