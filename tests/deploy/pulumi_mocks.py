"""Runs the Pulumi program with mocks and prints, as JSON, what it would register. Run by test_pulumi.py.

Takes the settings as a JSON object in its first argument. Pulumi's engine is not needed; the service's answers (ARNs,
ids) are made up here in the service's own form.
"""

import json
import pathlib
import sys

import pulumi

ACCOUNT = "111122223333"
REGION = "eu-central-1"
PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "pulumi"
PROJECT = "wheelport-packages"


class Service(pulumi.runtime.Mocks):
    def __init__(self):
        self.registered = []

    def new_resource(self, args):
        known = dict(args.inputs)
        match args.typ:
            case "aws:kms/key:Key":
                known |= {"arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/key-1", "keyId": "key-1"}
            case "aws:codeartifact/domain:Domain":
                domain = known["domain"]
                known |= {
                    "arn": f"arn:aws:codeartifact:{REGION}:{ACCOUNT}:domain/{domain}",
                    "owner": ACCOUNT,
                }
            case "aws:codeartifact/repository:Repository":
                name = f"{known['domain']}/{known['repository']}"
                known["arn"] = f"arn:aws:codeartifact:{REGION}:{ACCOUNT}:repository/{name}"
            case "aws:s3/bucket:Bucket":
                known["arn"] = f"arn:aws:s3:::{known['bucket']}"
            case "aws:sqs/queue:Queue":
                known["arn"] = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{known['name']}"
            case "aws:cloudwatch/eventRule:EventRule":
                known["arn"] = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{known['name']}"
            case "aws:iam/role:Role":
                known["arn"] = f"arn:aws:iam::{ACCOUNT}:role/{known['name']}"
        if args.typ.startswith("aws:"):
            self.registered.append({"type": args.typ, "name": args.name, "inputs": args.inputs})
        return [known.get("name", args.name), known]

    def call(self, args):
        raise AssertionError(f"the program calls {args.token}, which no test answers")


def main() -> None:
    settings = json.loads(sys.argv[1])
    service = Service()
    exports = {}
    pulumi.runtime.set_mocks(service, project=PROJECT, stack="test", preview=False)
    pulumi.runtime.set_all_config(
        {
            f"{PROJECT}:{name}": value if isinstance(value, str) else json.dumps(value)
            for name, value in settings.items()
        }
    )
    real_export = pulumi.export

    def export(name, value):
        pulumi.Output.from_input(value).apply(lambda known: exports.__setitem__(name, known))
        real_export(name, value)

    pulumi.export = export
    sys.path.insert(0, str(PROGRAM))

    @pulumi.runtime.test
    def program():
        exec(compile((PROGRAM / "__main__.py").read_text(), "__main__.py", "exec"), {"__name__": "__main__"})

    program()
    json.dump({"resources": service.registered, "exports": exports}, sys.stdout)


main()
