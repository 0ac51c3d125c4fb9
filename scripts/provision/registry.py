"""Every service and tool, in the order of starting: one that reads another's ports comes after it."""

from .core import Service
from .services.dynamodb import DynamoDB
from .services.browser import Browser, Recorder
from .services.composed import ComposedKafka, Zookeeper, ZookeeperKafka
from .services.kafka import Kafka
from .services.manifests import Actionlint, Buildah, Dbt, Hadolint, Kubeconform, Manifests, Systemd
from .services.minio import Minio
from .services.mlflow import Mlflow
from .services.moto import Moto
from .services.opensearch import OpenSearch
from .services.postgres import Postgres
from .services.prometheus import Alertmanager, Prometheus
from .services.redis import Redis
from .services.terraform import Checkov, Terraform
from .services.tools import AwsCli, CargoDeny, CargoLambda, Graphviz, Kcat, Python, Schemathesis, Shellcheck, Tarpaulin
from .services.toxiproxy import Toxiproxy

SERVICES: tuple[Service, ...] = (
    Kafka(),
    ComposedKafka(),
    Zookeeper(),
    ZookeeperKafka(),
    Postgres(),
    Redis(),
    Minio(),
    Moto(),
    DynamoDB(),
    OpenSearch(),
    Alertmanager(),
    Prometheus(),
    Mlflow(),
    Toxiproxy(),
    Terraform(),
    Checkov(),
    Manifests(),
    Kubeconform(),
    Dbt(),
    Systemd(),
    Buildah(),
    Kcat(),
    Python(),
    Browser(),
    Recorder(),
    Graphviz(),
    Schemathesis(),
    AwsCli(),
    Shellcheck(),
    Actionlint(),
    Hadolint(),
    CargoDeny(),
    CargoLambda(),
    Tarpaulin(),
)

# What the tests of this repository need.
FOR_TESTS = (
    "kafka", "postgres", "mlflow", "toxiproxy", "minio", "moto", "dynamodb", "terraform", "checkov", "kcat", "python",
    "browser", "kafkacompose", "zookeeper", "kafkazookeeper", "prometheus", "alertmanager", "redis", "manifests", "kubeconform",
    "dbt", "schemathesis", "systemd", "opensearch", "buildah", "awscli",
)
