//! The paths as one HTML page that loads nothing from anywhere.

use std::fmt::Write as _;

use crate::model::talk::{Talk, Trusted};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1b1f24;background:#fff}\
h1{font-size:1.5rem}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.45rem .6rem;border-bottom:1px solid #d0d7de}\
th{position:sticky;top:0;background:#f6f8fa}code{font:13px ui-monospace,monospace}\
.open{background:#fff8e5}.small{color:#57606a;font-size:13px}details summary{cursor:pointer}\
@media (prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}th{background:#161b22}\
th,td{border-color:#30363d}.open{background:#2b2412}.small{color:#8b949e}}";

/// The page.
pub fn page(talks: &[Talk], cluster: Option<&str>) -> String {
    let title = match cluster {
        Some(name) => format!("How the cluster {name} talks"),
        None => "How a Kubernetes cluster talks".to_owned(),
    };
    let title = escape(&title);
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <table>\n<thead><tr><th>From</th><th>To</th><th>Client shows</th><th>Server shows</th>\
         <th>Protected by</th><th>When it breaks</th></tr></thead>\n<tbody>\n"
    );
    for talk in talks {
        row(&mut text, talk);
    }
    text.push_str("</tbody>\n</table>\n</body>\n</html>\n");
    text
}

fn row(text: &mut String, talk: &Talk) {
    let class = if talk.remedy.is_some() { " class=\"open\"" } else { "" };
    let names = match talk.names.is_empty() {
        true => String::new(),
        false => format!("<div class=\"small\">known as {}</div>", escape(&talk.names.join(", "))),
    };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "<tr id=\"{}\"{class}><td>{}</td><td>{}<div class=\"small\">port {}</div></td>\
         <td>{}{}</td><td>{}{}{names}</td><td>{}",
        escape(talk.id),
        escape(talk.from),
        escape(talk.to),
        escape(&talk.port),
        escape(talk.client.what),
        checked(talk.server_trusts.as_ref()),
        escape(talk.server.what),
        checked(talk.client_trusts.as_ref()),
        escape(talk.protection),
    );
    for note in [talk.why, talk.remedy].into_iter().flatten() {
        let _ = write!(text, "<div class=\"small\">{}</div>", escape(note));
    }
    if !talk.settings.is_empty() {
        text.push_str("<details><summary class=\"small\">settings</summary>");
        for told in &talk.settings {
            let value = told.value.as_deref().map(|v| format!("={v}")).unwrap_or_default();
            let line = format!("{} {}{value}", told.component, told.setting);
            let _ = write!(text, "<div><code>{}</code></div>", escape(&line));
        }
        text.push_str("</details>");
    }
    let _ = writeln!(text, "</td><td>{}</td></tr>", escape(talk.breaks));
}

fn checked(trusted: Option<&Trusted>) -> String {
    match trusted {
        Some(trusted) => {
            format!("<div class=\"small\">checked by <code>{}</code></div>", escape(trusted.file))
        }
        None => String::new(),
    }
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::talk::talks;

    #[test]
    fn the_page_needs_nothing_but_itself_and_escapes_what_it_shows() {
        let page = page(&talks(None), Some("<script>alert(1)</script>&\"'"));
        assert!(!page.contains("<script"));
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;"));
        for outside in ["http://", "https://", "src=", "url(", "@import", "<link"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<tr id=").count(), talks(None).len());
    }
}
