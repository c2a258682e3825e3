//! What somebody may have meant who wrote something else.

/// The one of the known texts that is nearest, if it is near enough to have been meant.
pub fn nearest<'k>(known: impl IntoIterator<Item = &'k str>, text: &str) -> Option<&'k str> {
    let far = (text.chars().count() / 3).max(2);
    let all = known.into_iter().map(|known| (distance(known, text), known));
    all.filter(|(distance, _)| *distance <= far).min_by_key(|(distance, _)| *distance).map(|n| n.1)
}

/// Which of these may have been meant, and what they are: some, where there are many.
pub fn meant(what: &str, known: &[String], text: &str) -> String {
    const SOME: usize = 12;
    let all = match known.len() {
        0 => format!("there are no {what}"),
        many if many > SOME => {
            format!("{what} are {}, and {} more", known[..SOME].join(", "), many - SOME)
        }
        _ => format!("{what} are {}", known.join(", ")),
    };
    match nearest(known.iter().map(String::as_str), text) {
        Some(near) => format!("did you mean `{near}`? {all}"),
        None => all,
    }
}

/// How many characters must change to make one text of the other, letter case aside (Levenshtein).
pub fn distance(a: &str, b: &str) -> usize {
    // Nobody means something by so long a text.
    if b.len() > 80 {
        return usize::MAX;
    }
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_was_meant_and_what_is_far_was_not() {
        let known = ["apiserver", "apiserver-etcd-client", "etcd-server"];
        assert_eq!(nearest(known, "apiservr"), Some("apiserver"));
        assert_eq!(nearest(known, "Etcd-Server"), Some("etcd-server"));
        assert_eq!(nearest(known, "kubelet"), None);
        assert_eq!(nearest(known, &"a".repeat(1000)), None);
        let hosts: Vec<String> = (1..=100).map(|n| format!("worker-{n}")).collect();
        assert!(meant("hosts", &hosts, "worker-1x").starts_with("did you mean `worker-1`? "));
        assert!(meant("hosts", &hosts, "elsewhere").ends_with("and 88 more"));
        assert_eq!(meant("hosts", &hosts[..2], "x"), "hosts are worker-1, worker-2");
    }
}
