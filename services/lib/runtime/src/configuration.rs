//! Configuration: defaults in code < a TOML file < variables named `FULLTAPE__SECTION__KEY`.
//!
//! Every key that a user sets is tried on its own against the defaults, so that all errors are
//! reported together, each with the place where the key was set. For that to find unknown keys,
//! configuration types deny unknown fields.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Variables that set keys begin like this; `__` separates the parts of a key.
pub const ENV_PREFIX: &str = "FULLTAPE__";

/// What [`ENV_PREFIX`] becomes when an underscore is forgotten.
const SLIP_PREFIX: &str = "FULLTAPE_";

/// What is shown instead of a secret.
const MASK: &str = "********";

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub struct ConfigErrors(Vec<String>);

impl ConfigErrors {
    /// Errors found by a check of the caller's own.
    pub fn new(errors: Vec<String>) -> Self {
        Self(errors)
    }

    /// Each of the errors.
    pub fn into_list(self) -> Vec<String> {
        self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration: {}", self.0.join("\nconfiguration: "))
    }
}

/// One key that a user set.
struct Setting {
    place: String,
    path: Vec<String>,
    given: Given,
}

/// How the user gave it.
enum Given {
    /// With its type.
    Typed(Value),
    /// As the text of a variable.
    Text(String),
}

impl Given {
    /// What it may mean, in the order in which to try, where `default` stands: a text may be itself
    /// or JSON; where a list is expected it is JSON or the items with commas between them.
    fn candidates(&self, default: Option<&Value>) -> Vec<Value> {
        let text = match self {
            Self::Typed(value) => return vec![value.clone()],
            Self::Text(text) => text,
        };
        let json = serde_json::from_str(text).ok();
        if default.is_some_and(Value::is_array) {
            let items = || text.split(',').map(|item| Value::String(item.trim().to_owned())).collect();
            return vec![json.filter(Value::is_array).unwrap_or_else(|| Value::Array(items()))];
        }
        std::iter::once(Value::String(text.clone())).chain(json).collect()
    }
}

/// Reads the configuration of type `T` from a file, if given, and from `variables`.
///
/// # Errors
/// All keys that are unknown or have values of the wrong type, and a file that cannot be read.
pub fn load<T>(file: Option<&Path>, variables: impl IntoIterator<Item = (String, String)>) -> Result<T, ConfigErrors>
where
    T: Default + Serialize + DeserializeOwned,
{
    let defaults = serde_json::to_value(T::default()).expect("a configuration can be written as JSON");
    let mut settings = match file {
        Some(path) => settings_of_file(path).map_err(|error| ConfigErrors(vec![error]))?,
        None => Vec::new(),
    };
    settings.extend(settings_of_variables(variables));
    let mut merged = defaults.clone();
    let mut errors = Vec::new();
    for setting in settings {
        match accepted::<T>(&defaults, &setting) {
            Ok(value) => put(&mut merged, &setting.path, value),
            Err(error) => errors.push(format!("{}: {}: {error}", setting.place, setting.path.join("."))),
        }
    }
    if errors.is_empty() {
        serde_json::from_value(merged).map_err(|error| ConfigErrors(vec![error.to_string()]))
    } else {
        Err(ConfigErrors(errors))
    }
}

/// The process's own variables.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// A configuration as TOML, with secrets masked.
pub fn printed<T: Serialize>(config: &T) -> String {
    let mut value = serde_json::to_value(config).expect("a configuration can be written as JSON");
    mask(&mut value);
    strip_nulls(&mut value);
    toml::to_string_pretty(&value).unwrap_or_else(|_| value.to_string())
}

fn settings_of_file(path: &Path) -> Result<Vec<Setting>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let value = serde_json::to_value(table).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut settings = Vec::new();
    collect_leaves(&value, &mut Vec::new(), &mut |keys, leaf| {
        let place = path.display().to_string();
        settings.push(Setting { place, path: keys.to_vec(), given: Given::Typed(leaf.clone()) });
    });
    Ok(settings)
}

fn settings_of_variables(variables: impl IntoIterator<Item = (String, String)>) -> Vec<Setting> {
    let mut settings: Vec<Setting> = variables
        .into_iter()
        .filter_map(|(name, text)| {
            let path = match name.strip_prefix(ENV_PREFIX) {
                Some(keys) => keys.split("__").map(str::to_lowercase).collect(),
                // A slip of the pen, which is an unknown key. What is not about settings has no `__`.
                None => vec![name.strip_prefix(SLIP_PREFIX).filter(|key| key.contains("__"))?.to_lowercase()],
            };
            Some(Setting { place: name, path, given: Given::Text(text) })
        })
        .collect();
    settings.sort_by(|a, b| a.place.cmp(&b.place));
    settings
}

fn collect_leaves(value: &Value, path: &mut Vec<String>, each: &mut impl FnMut(&[String], &Value)) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, field) in fields {
                path.push(key.clone());
                collect_leaves(field, path, each);
                path.pop();
            }
        }
        leaf if !path.is_empty() => each(path, leaf),
        _ => {}
    }
}

fn accepted<T: DeserializeOwned>(defaults: &Value, setting: &Setting) -> Result<Value, String> {
    let mut first_error = None;
    let default = setting.path.iter().try_fold(defaults, |node, key| node.get(key));
    for candidate in setting.given.candidates(default) {
        let mut trial = defaults.clone();
        put(&mut trial, &setting.path, candidate.clone());
        match serde_json::from_value::<T>(trial) {
            Ok(_) => return Ok(candidate),
            Err(error) => first_error = first_error.or(Some(error.to_string())),
        }
    }
    Err(first_error.unwrap_or_default())
}

fn put(root: &mut Value, path: &[String], value: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut node = root;
    for key in parents {
        if !node.is_object() {
            *node = Value::Object(Map::new());
        }
        node = node.as_object_mut().expect("made an object above").entry(key.clone()).or_insert(Value::Null);
    }
    if !node.is_object() {
        *node = Value::Object(Map::new());
    }
    node.as_object_mut().expect("made an object above").insert(last.clone(), value);
}

fn mask(value: &mut Value) {
    let Value::Object(fields) = value else { return };
    for (key, field) in fields {
        let secret = ["password", "secret", "token", "api_key"].iter().any(|word| key.contains(word));
        if secret && field.is_string() {
            *field = Value::String(MASK.to_owned());
        } else {
            mask(field);
        }
    }
}

/// TOML has no null: a key without a value is left out.
fn strip_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, field| !field.is_null());
        fields.values_mut().for_each(strip_nulls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Config {
        name: String,
        limits: Limits,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Limits {
        rows: u32,
        password: Option<String>,
        symbols: Vec<String>,
    }

    impl Default for Config {
        fn default() -> Self {
            Self { name: "tape".to_owned(), limits: Limits::default() }
        }
    }

    impl Default for Limits {
        fn default() -> Self {
            Self { rows: 7, password: None, symbols: vec!["A".to_owned()] }
        }
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn variables_win_over_the_file_and_the_file_over_defaults() {
        let file = file("name = \"file\"\n[limits]\nrows = 8\n");
        let set =
            variables(&[("FULLTAPE__LIMITS__ROWS", "9"), ("FULLTAPE__LIMITS__SYMBOLS", r#"["B","C"]"#), ("PATH", "/")]);
        let config: Config = load(Some(file.path()), set).unwrap();
        assert_eq!(config.name, "file");
        assert_eq!(config.limits.rows, 9);
        assert_eq!(config.limits.symbols, ["B", "C"]);
    }

    #[test]
    fn a_forgotten_underscore_is_no_key() {
        let set = variables(&[("FULLTAPE_LIMITS__ROWS", "9"), ("FULLTAPE_BIN", "/bin/fulltape")]);
        let error = load::<Config>(None, set).unwrap_err().to_string();
        assert!(error.contains("FULLTAPE_LIMITS__ROWS") && !error.contains("FULLTAPE_BIN"), "{error}");
    }

    #[test]
    fn a_list_is_json_or_has_commas() {
        for text in ["B,C", "B, C", r#"["B","C"]"#] {
            let config: Config = load(None, variables(&[("FULLTAPE__LIMITS__SYMBOLS", text)])).unwrap();
            assert_eq!(config.limits.symbols, ["B", "C"], "{text}");
        }
        let config: Config = load(None, variables(&[("FULLTAPE__LIMITS__SYMBOLS", "7")])).unwrap();
        assert_eq!(config.limits.symbols, ["7"]);
    }

    #[test]
    fn a_text_that_looks_like_a_number_stays_a_text() {
        let config: Config = load(None, variables(&[("FULLTAPE__NAME", "17")])).unwrap();
        assert_eq!(config.name, "17");
    }

    #[test]
    fn all_errors_come_together_with_their_places() {
        let file = file("nmae = 1\n[limits]\nrows = \"many\"\n");
        let set = variables(&[("FULLTAPE__LIMITS__COLUMNS", "9"), ("FULLTAPE__LIMIT__ROWS", "9")]);
        let errors = load::<Config>(Some(file.path()), set).unwrap_err().to_string();
        for expected in [
            "nmae: unknown field",
            "limits.rows: invalid type",
            "FULLTAPE__LIMITS__COLUMNS: limits.columns",
            "FULLTAPE__LIMIT__ROWS: limit.rows",
        ] {
            assert!(errors.contains(expected), "{expected} in {errors}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let config: Config = load(None, variables(&[("FULLTAPE__LIMITS__PASSWORD", "hunter2")])).unwrap();
        assert!(!printed(&config).contains("hunter2"));
        assert!(printed(&config).contains("rows = 7"));
    }

    #[test]
    fn a_broken_file_is_named() {
        let file = file("name = \n");
        let errors = load::<Config>(Some(file.path()), Vec::new()).unwrap_err().to_string();
        assert!(errors.contains(&file.path().display().to_string()), "{errors}");
    }
}
