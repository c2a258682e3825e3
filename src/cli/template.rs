//! `certkit template`

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use serde::Serialize;
use serde_json::json;

use super::{
    Exit, Failure, Format, Global,
    output::{self, grid::Column},
    print,
};
use crate::render::{
    Templates,
    deploy::{DEPLOYMENTS, Deployment},
    is_one_line,
};

/// Print a template to deploy certkit with
///
/// Prints one of the deployment templates: systemd units and timers, cron, Kubernetes manifests,
/// Prometheus rules, a Grafana dashboard. They hold --dir where they need it. Without a name: lists them.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct TemplateArgs {
    /// The template; none to list them
    #[arg(value_name = "NAME")]
    #[arg(value_parser = PossibleValuesParser::new(DEPLOYMENTS.iter().map(|d| d.name)))]
    name: Option<String>,
    /// How to print the list
    #[arg(short, long, value_name = "FORMAT", default_value = "table", conflicts_with = "name")]
    output: Format,
    /// A folder whose files replace built-in templates of the same name, like deploy/cron.cron
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
}

const HELP: &str = "\
EXIT CODES:
  0   printed
  3   certkit could not do it
  64  the command line was wrong

EXAMPLES:
  certkit template
  certkit template systemd-service > /etc/systemd/system/certkit-check.service
  certkit template systemd-timer > /etc/systemd/system/certkit-check.timer
  certkit template prometheus-rules > /etc/prometheus/rules/certkit.yaml
  certkit template rbac | kubectl --kubeconfig super-admin.conf apply -f -";

#[derive(Serialize)]
struct Context<'a> {
    dir: &'a str,
    /// What systemd's settings of these names are to be, so that a unit sees DIR.
    private_tmp: &'static str,
    protect_home: &'static str,
}

impl<'a> Context<'a> {
    fn new(dir: &'a str) -> Self {
        let path = Path::new(dir);
        // It may be reached by a link.
        let real = path.canonicalize();
        let is_below = |folders: &[&str]| {
            let mut ways = [path].into_iter().chain(real.as_deref().ok());
            ways.any(|way| folders.iter().any(|folder| way.starts_with(folder)))
        };
        Self {
            dir,
            private_tmp: if is_below(&["/tmp", "/var/tmp"]) { "no" } else { "yes" },
            // What is below is not writable, but for ReadWritePaths= (systemd.exec(5)).
            protect_home: match is_below(&["/home", "/root", "/run/user"]) {
                true => "read-only",
                false => "yes",
            },
        }
    }
}

pub fn run(args: &TemplateArgs, global: &Global) -> Result<Exit, Failure> {
    let templates = templates(args.templates.as_deref())?;
    let asked = args.name.as_deref().and_then(|name| DEPLOYMENTS.iter().find(|d| d.name == name));
    let text = match asked {
        Some(deployment) => fill(deployment, &templates, &global.dir)?,
        None if matches!(args.output, Format::Json | Format::Yaml) => {
            let one = |d: &Deployment| json!({"name": d.name, "about": d.about});
            let templates: Vec<_> = DEPLOYMENTS.iter().map(one).collect();
            let document =
                json!({"apiVersion": "certkit/v1", "kind": "TemplateList", "templates": templates});
            super::document(format!("{document:#}\n"), args.output)?
        }
        None => {
            let rows: Vec<_> =
                DEPLOYMENTS.iter().map(|d| vec![d.name.into(), d.about.into()]).collect();
            let columns = [Column::new("NAME"), Column::new("WHAT IT IS").least(20)];
            output::table(&columns, &rows, args.output.is_wide())
        }
    };
    print(text)?;
    Ok(Exit::Done)
}

fn fill(deployment: &Deployment, templates: &Templates, dir: &Path) -> Result<String, Failure> {
    let dir = absolute(dir)?;
    match dir.to_str().filter(|dir| is_one_line(dir)) {
        Some(dir)
            if deployment.template.ends_with(".cron")
                && dir.contains('\'')
                && dir.contains('"') =>
        {
            Err(Failure::usage(
                "--dir has both kinds of quotes, and a crontab's value can hold one",
            ))
        }
        Some(dir) => Ok(templates.render(deployment.template, Context::new(dir))?),
        None => Err(Failure::usage("--dir has a character that no unit or manifest can hold")),
    }
}

/// The built-in templates, with those of a folder in their place.
pub fn templates(folder: Option<&Path>) -> Result<Templates, Failure> {
    match folder {
        Some(folder) => Ok(Templates::with_folder(folder)?),
        None => Ok(Templates::default()),
    }
}

/// A path as it is from the root, as units and flags must name it; it need not exist.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(Failure::new)
}
