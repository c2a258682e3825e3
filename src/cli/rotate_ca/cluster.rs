//! What was found of CAs in the cluster, told.

use serde_json::{Value, json};

use crate::{
    cli::{
        Exit,
        output::{self, grid::Column},
        warn,
    },
    model::catalogue::Mended,
    ops::rotate_ca::{
        Survey,
        cluster::{ClusterCopy, short},
    },
};

const COLUMNS: [Column; 5] = [
    Column::new("CA"),
    Column::new("IN THE CLUSTER").least(24).keeps_end(),
    Column::new("HOLDS").least(16).rank(2),
    Column::new("IS"),
    Column::new("NEXT").least(24).rank(1),
];

/// The table of what is not right there, or that nothing is wrong.
pub fn table(found: &Survey, wide: bool) -> String {
    if found.copies.is_empty() {
        return match found.failed.is_empty() {
            true => {
                "\nin the cluster nothing was found that holds an old generation alone\n".into()
            }
            false => String::new(),
        };
    }
    let rows: Vec<Vec<String>> = found
        .copies
        .iter()
        .map(|copy| {
            let next = if copy.is_mended { "" } else { copy.remedy() };
            vec![
                copy.authority.to_owned(),
                copy.place(),
                short(&copy.fingerprints),
                state(copy).to_owned(),
                next.to_owned(),
            ]
        })
        .collect();
    format!(
        "\nwhat in the cluster holds something else than what is trusted now:\n\n{}",
        output::table(&COLUMNS, &rows, wide)
    )
}

/// One word for how a copy is.
fn state(copy: &ClusterCopy) -> &'static str {
    match (copy.is_mended, copy.mended, copy.is_stale) {
        (true, Mended::Deleted, _) => "deleted",
        (true, ..) => "updated",
        (_, _, true) => "stale",
        (_, _, false) => "differs",
    }
}

/// The same for a JSON document; null where nobody looked.
pub fn document(found: Option<&Survey>) -> Value {
    let copy = |copy: &ClusterCopy| {
        json!({
            "name": copy.authority,
            "kind": copy.kind,
            "namespace": copy.namespace,
            "object": copy.name,
            "field": copy.field,
            "fingerprints": copy.fingerprints,
            "state": state(copy),
        })
    };
    match found {
        Some(found) => Value::Array(found.copies.iter().map(copy).collect()),
        None => Value::Null,
    }
}

/// Says what could not be looked at or changed.
pub fn complain(found: Option<&Survey>) -> Exit {
    let failed = found.map(|found| found.failed.as_slice()).unwrap_or_default();
    failed.iter().for_each(warn);
    if failed.is_empty() { Exit::Done } else { Exit::Partly }
}
