//! JSON Schema, as far as the published ones use it. They allow fields to be added; here none may be that they do not
//! know: what is put out is documented.

use serde_json::Value;

/// What of a value is not as the schema says.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    inner(schema, schema, value, "$")
}

/// What of JSON Schema the schema uses, checked: `$ref`, `type`, `const`, `enum`, `required`, `properties`,
/// `items`, `pattern` for dates and hexadecimal, `oneOf`.
fn inner(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let faults = std::cell::RefCell::new(Vec::new());
    let fault = |what: String| faults.borrow_mut().push(format!("{at}: {what}"));
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        match keyword.as_str() {
            "$ref" => {
                let pointer = rule.as_str().unwrap().trim_start_matches('#');
                let target = root.pointer(pointer).expect("the reference leads somewhere");
                faults.borrow_mut().extend(inner(root, target, value, at));
                continue;
            }
            "type" => {
                let names: Vec<&str> = match rule {
                    Value::Array(all) => all.iter().map(|t| t.as_str().unwrap()).collect(),
                    one => vec![one.as_str().unwrap()],
                };
                let is = |name: &str| match name {
                    "array" => value.is_array(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64(),
                    "null" => value.is_null(),
                    "object" => value.is_object(),
                    "string" => value.is_string(),
                    other => panic!("unknown type {other}"),
                };
                if !names.into_iter().any(is) {
                    fault(format!("{value} is not {rule}"));
                }
            }
            "const" if value != rule => fault(format!("{value} is not {rule}")),
            "enum" if !rule.as_array().unwrap().contains(value) => {
                fault(format!("{value} is none of {rule}"));
            }
            "required" if value.is_object() => {
                for name in rule.as_array().unwrap() {
                    if value.get(name.as_str().unwrap()).is_none() {
                        fault(format!("{name} is not there"));
                    }
                }
            }
            "properties" => {
                let known = rule.as_object().unwrap();
                for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                    if !known.contains_key(name) {
                        fault(format!("{name} is not in the schema"));
                    }
                }
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        let inner = inner(root, rule, value, &format!("{at}.{name}"));
                        faults.borrow_mut().extend(inner);
                    }
                }
                continue;
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    faults.borrow_mut().extend(inner(root, rule, item, &format!("{at}[{index}]")));
                }
                continue;
            }
            "oneOf" => {
                let fits = |rule: &&Value| inner(root, rule, value, at).is_empty();
                if rule.as_array().unwrap().iter().filter(fits).count() != 1 {
                    fault(format!("{value} is not one of {rule}"));
                }
            }
            "format" if rule == "date-time" => {
                let is_time =
                    |text: &str| text.parse::<certkit::model::timestamp::Timestamp>().is_ok();
                if value.as_str().is_some_and(|text| !is_time(text)) {
                    fault(format!("{value} is no time"));
                }
            }
            "pattern" => {
                assert_eq!(rule, "^-?[0-9a-f]+$");
                let text = value.as_str().unwrap();
                let digits = text.strip_prefix('-').unwrap_or(text);
                if digits.is_empty()
                    || !digits.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
                {
                    fault(format!("{value} is not hexadecimal"));
                }
            }
            "const" | "enum" | "required" | "$schema" | "$id" | "$defs" | "title"
            | "description" => {}
            other => panic!("this check does not know {other}"),
        }
    }
    faults.into_inner()
}
