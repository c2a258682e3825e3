//! `certkit flags`

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Exit, Failure, Format, Global, completions, print};
use crate::{
    model::{catalogue::COMPONENTS, layout::PUBLIC},
    ops::{
        declared,
        flags::{FlagsFormat, FlagsRequest, files, flags, keys_elsewhere},
    },
    store,
};

/// Print what makes components use this PKI
///
/// Prints the flags, configuration files, unit drop-ins or patches that make kube-apiserver, etcd, the
/// kubelet and the others use the certificates that `certkit init` made. Only PKI and TLS settings, the
/// secure ones. Reads certkit.yaml, and writes nothing but what --output-dir asks for.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct FlagsArgs {
    /// Components; none for all that run on the host
    #[arg(value_name = "COMPONENT")]
    #[arg(value_delimiter = ',')]
    #[arg(value_parser = PossibleValuesParser::new(COMPONENTS.iter().map(|c| c.id)))]
    components: Vec<String>,
    /// The host they run on, where certkit.yaml has several that differ
    #[arg(long, value_name = "NAME", add = completions::hosts())]
    host: Option<String>,
    /// Where the host keeps the tree, instead of what certkit.yaml says
    #[arg(long, value_name = "PATH")]
    host_dir: Option<String>,
    /// The form: args is one flag a line, env an environment file, systemd a drop-in for the unit,
    /// static-pod a patch for the manifest, config the component's own configuration file, kubeadm a
    /// ClusterConfiguration, json everything as one document, yaml the same document
    #[arg(short = 'o', long = "format", visible_alias = "output", value_name = "FORMAT")]
    #[arg(default_value = "args", value_parser = format_parser())]
    format: Form,
    /// Say before each setting why it is there, what happens without it, and how a changed file is taken
    /// up
    #[arg(long)]
    explain: bool,
    /// Write the files into this folder, by the names they are to be saved by, instead of printing: it is made
    /// if it is missing; files of the same names are replaced, symbolic links never followed
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// A folder whose files replace built-in templates of the same name, like flags/systemd.conf
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
}

const HELP: &str = "\
EXIT CODES:
  0   printed
  3   certkit could not do it
  64  the command line was wrong

EXAMPLES:
  certkit flags kube-apiserver
  certkit flags etcd --host etcd1 --format systemd
  certkit flags kubelet --format config --explain
  certkit flags --format kubeadm > kubeadm.yaml
  certkit flags --format systemd --output-dir /etc/systemd/system
  certkit flags -o json
  kube-scheduler $(certkit flags kube-scheduler) --leader-elect=true
  kubectl create secret generic cacerts -n istio-system $(certkit flags istiod)";

/// A form, and whether its JSON is to be YAML.
#[derive(Clone, Copy, Debug)]
struct Form {
    format: FlagsFormat,
    document: Format,
}

fn format_parser() -> impl TypedValueParser<Value = Form> {
    const YAML: &str = "yaml";
    let names = FlagsFormat::ALL.map(FlagsFormat::name).into_iter().chain([YAML]);
    PossibleValuesParser::new(names).map(|name| {
        let found = FlagsFormat::ALL.into_iter().find(|format| format.name() == name);
        match name == YAML {
            true => Form { format: FlagsFormat::Json, document: Format::Yaml },
            false => Form { format: found.unwrap_or_default(), document: Format::Json },
        }
    })
}

pub fn run(args: &FlagsArgs, global: &Global) -> Result<Exit, Failure> {
    let templates = super::template::templates(args.templates.as_deref())?;
    let dir = super::template::absolute(&global.dir)?;
    let cluster = declared::load(&dir)?;
    let request = FlagsRequest {
        components: args.components.clone(),
        host: args.host.clone(),
        host_dir: args.host_dir.clone(),
        format: args.format.format,
        explain: args.explain,
        without_keys: keys_elsewhere(&cluster, &dir),
    };
    let Some(folder) = &args.output_dir else {
        let text = flags(&cluster, &dir, &request, &templates)?;
        print(super::document(text, args.format.document)?)?;
        return Ok(Exit::Done);
    };
    let files = files(&cluster, &dir, &request, &templates)?;
    let written = files.into_iter().map(|file| {
        let text = super::document(file.text, args.format.document)?;
        let name = match args.format.document {
            Format::Yaml => file.name.replace(".json", ".yaml"),
            _ => file.name,
        };
        Ok((name.into(), text.into_bytes()))
    });
    let files: Vec<_> = written.collect::<Result<_, Failure>>()?;
    for path in store::write_below(&super::absolute(folder)?, &files, PUBLIC)? {
        if !global.quiet {
            print(format!("{}\n", path.display()))?;
        }
    }
    Ok(Exit::Done)
}
