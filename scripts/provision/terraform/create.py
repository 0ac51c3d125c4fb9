#!/usr/bin/env python3
"""Creates what a Terraform plan would create, on a local AWS endpoint.

    create.py STATE.json ENDPOINT

STATE.json is `terraform show -json` after the plan was carried out on the providers that know only their schema: it holds every
value of the plan, and the policies that name ARNs, which a plan leaves open. Terraform's own provider is not there to make the
calls (it cannot be had from a package registry), so each resource becomes the call that the provider would make. A type that
is not known here is an error, never left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import boto3


class Endpoint:
    """Clients by service, in the region that a resource is planned for."""

    def __init__(self, url: str):
        self.url = url

    def client(self, service: str, region: str | None):
        region = region or "us-east-1"  # services without regions, as IAM
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, endpoint_url=self.url, region_name=region, **keys)


def bucket(aws, region, v):
    aws.client("s3", region).create_bucket(Bucket=v["bucket"], CreateBucketConfiguration={"LocationConstraint": region})


def public_access(aws, region, v):
    names = {"BlockPublicAcls": "block_public_acls", "BlockPublicPolicy": "block_public_policy"}
    names |= {"IgnorePublicAcls": "ignore_public_acls", "RestrictPublicBuckets": "restrict_public_buckets"}
    settings = {name: v[key] for name, key in names.items()}
    aws.client("s3", region).put_public_access_block(Bucket=v["bucket"], PublicAccessBlockConfiguration=settings)


def ownership(aws, region, v):
    rules = {"Rules": [{"ObjectOwnership": rule["object_ownership"]} for rule in v["rule"]]}
    aws.client("s3", region).put_bucket_ownership_controls(Bucket=v["bucket"], OwnershipControls=rules)


def encryption(aws, region, v):
    default = v["rule"][0]["apply_server_side_encryption_by_default"][0]
    rules = [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": default["sse_algorithm"]}}]
    settings = {"Rules": rules}
    aws.client("s3", region).put_bucket_encryption(Bucket=v["bucket"], ServerSideEncryptionConfiguration=settings)


def versioning(aws, region, v):
    status = {"Status": v["versioning_configuration"][0]["status"]}
    aws.client("s3", region).put_bucket_versioning(Bucket=v["bucket"], VersioningConfiguration=status)


def lifecycle(aws, region, v):
    rules = [lifecycle_rule(rule) for rule in v["rule"]]
    settings = {"Rules": rules}
    aws.client("s3", region).put_bucket_lifecycle_configuration(Bucket=v["bucket"], LifecycleConfiguration=settings)


def lifecycle_rule(rule):
    made = {"ID": rule["id"], "Status": rule["status"], "Filter": {"Prefix": (first(rule, "filter") or {}).get("prefix") or ""}}
    abort, old = first(rule, "abort_incomplete_multipart_upload"), first(rule, "noncurrent_version_expiration")
    move, end = first(rule, "transition"), first(rule, "expiration")
    if abort:
        made["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": abort["days_after_initiation"]}
    if old:
        made["NoncurrentVersionExpiration"] = {"NoncurrentDays": old["noncurrent_days"]}
    if move:
        made["Transitions"] = [{"Days": move["days"], "StorageClass": move["storage_class"]}]
    if end:
        marker = {"ExpiredObjectDeleteMarker": True}
        made["Expiration"] = {"Days": end["days"]} if end.get("days") else marker
    return made


def first(value, name):
    return (value.get(name) or [None])[0]


def bucket_policy(aws, region, v):
    aws.client("s3", region).put_bucket_policy(Bucket=v["bucket"], Policy=v["policy"])


def notification(aws, region, v):
    configurations = [
        {
            "Id": each["id"],
            "LambdaFunctionArn": each["lambda_function_arn"],
            "Events": each["events"],
            "Filter": {
                "Key": {
                    "FilterRules": [
                        {"Name": "prefix", "Value": each["filter_prefix"]},
                        {"Name": "suffix", "Value": each["filter_suffix"]},
                    ]
                }
            },
        }
        for each in v["lambda_function"]
    ]
    settings = {"LambdaFunctionConfigurations": configurations}
    aws.client("s3", region).put_bucket_notification_configuration(Bucket=v["bucket"], NotificationConfiguration=settings)


def table(aws, region, v):
    keys = [{"AttributeName": v["hash_key"], "KeyType": "HASH"}]
    if v.get("range_key"):
        keys.append({"AttributeName": v["range_key"], "KeyType": "RANGE"})
    attributes = [{"AttributeName": each["name"], "AttributeType": each["type"]} for each in v["attribute"]]
    settings = {"BillingMode": v["billing_mode"], "DeletionProtectionEnabled": v["deletion_protection_enabled"]}
    if v["billing_mode"] == "PROVISIONED":
        settings["ProvisionedThroughput"] = {"ReadCapacityUnits": v["read_capacity"], "WriteCapacityUnits": v["write_capacity"]}
    aws.client("dynamodb", region).create_table(
        TableName=v["name"], KeySchema=keys, AttributeDefinitions=attributes, **settings
    )


def role(aws, region, v):
    aws.client("iam", region).create_role(RoleName=v["name"], AssumeRolePolicyDocument=v["assume_role_policy"])


def role_policy(aws, region, v):
    aws.client("iam", region).put_role_policy(RoleName=v["role"], PolicyName=v["name"], PolicyDocument=v["policy"])


def policy(aws, region, v):
    aws.client("iam", region).create_policy(PolicyName=v["name"], PolicyDocument=v["policy"])


def role_attachment(aws, region, v):
    aws.client("iam", region).attach_role_policy(RoleName=v["role"], PolicyArn=v["policy_arn"])


def user(aws, region, v):
    aws.client("iam", region).create_user(UserName=v["name"])


def user_attachment(aws, region, v):
    aws.client("iam", region).attach_user_policy(UserName=v["user"], PolicyArn=v["policy_arn"])


def log_group(aws, region, v):
    logs = aws.client("logs", region)
    logs.create_log_group(logGroupName=v["name"])
    logs.put_retention_policy(logGroupName=v["name"], retentionInDays=v["retention_in_days"])


def function(aws, region, v):
    aws.client("lambda", region).create_function(
        FunctionName=v["function_name"],
        Role=v["role"],
        Runtime=v["runtime"],
        Handler=v["handler"],
        Architectures=v["architectures"],
        MemorySize=v["memory_size"],
        Timeout=v["timeout"],
        Environment={"Variables": v["environment"][0]["variables"]},
        Code={"ZipFile": Path(v["filename"]).read_bytes()},
    )


def invoke_config(aws, region, v):
    destination = v["destination_config"][0]["on_failure"][0]["destination"]
    aws.client("lambda", region).put_function_event_invoke_config(
        FunctionName=v["function_name"],
        MaximumRetryAttempts=v["maximum_retry_attempts"],
        MaximumEventAgeInSeconds=v["maximum_event_age_in_seconds"],
        DestinationConfig={"OnFailure": {"Destination": destination}},
    )


def permission(aws, region, v):
    aws.client("lambda", region).add_permission(
        FunctionName=v["function_name"],
        StatementId=v["statement_id"],
        Action=v["action"],
        Principal=v["principal"],
        SourceArn=v["source_arn"],
        SourceAccount=v["source_account"],
    )


def queue(aws, region, v):
    attributes = {"MessageRetentionPeriod": str(v["message_retention_seconds"]), "SqsManagedSseEnabled": str(v["sqs_managed_sse_enabled"]).lower()}
    aws.client("sqs", region).create_queue(QueueName=v["name"], Attributes=attributes)


def topic(aws, region, v):
    aws.client("sns", region).create_topic(Name=v["name"])


def subscription(aws, region, v):
    aws.client("sns", region).subscribe(TopicArn=v["topic_arn"], Protocol=v["protocol"], Endpoint=v["endpoint"])


def alarm(aws, region, v):
    aws.client("cloudwatch", region).put_metric_alarm(
        AlarmName=v["alarm_name"],
        AlarmDescription=v["alarm_description"],
        Namespace=v["namespace"],
        MetricName=v["metric_name"],
        Dimensions=[{"Name": name, "Value": value} for name, value in v["dimensions"].items()],
        Statistic=v["statistic"],
        Period=v["period"],
        EvaluationPeriods=v["evaluation_periods"],
        Threshold=v["threshold"],
        ComparisonOperator=v["comparison_operator"],
        TreatMissingData=v["treat_missing_data"],
        AlarmActions=v["alarm_actions"],
    )


def budget(aws, region, v):
    notices = [
        {
            "Notification": {
                "NotificationType": each["notification_type"],
                "ComparisonOperator": each["comparison_operator"],
                "Threshold": each["threshold"],
                "ThresholdType": each["threshold_type"],
            },
            "Subscribers": [{"SubscriptionType": "EMAIL", "Address": a} for a in each["subscriber_email_addresses"]],
        }
        for each in v["notification"]
    ]
    limit = {"Amount": v["limit_amount"], "Unit": v["limit_unit"]}
    settings = {"BudgetName": v["name"], "BudgetType": v["budget_type"], "TimeUnit": v["time_unit"], "BudgetLimit": limit}
    client = aws.client("budgets", "us-east-1")
    client.create_budget(AccountId="123456789012", Budget=settings, NotificationsWithSubscribers=notices)


# In the order of creation: what refers to another comes after it. None: nothing to create.
CALLS = {
    "terraform_data": None,
    "aws_s3_bucket": bucket,
    "aws_s3_bucket_public_access_block": public_access,
    "aws_s3_bucket_ownership_controls": ownership,
    "aws_s3_bucket_server_side_encryption_configuration": encryption,
    "aws_s3_bucket_versioning": versioning,
    "aws_s3_bucket_lifecycle_configuration": lifecycle,
    "aws_s3_bucket_policy": bucket_policy,
    "aws_dynamodb_table": table,
    "aws_cloudwatch_log_group": log_group,
    "aws_sqs_queue": queue,
    "aws_sns_topic": topic,
    "aws_sns_topic_subscription": subscription,
    "aws_iam_role": role,
    "aws_iam_role_policy": role_policy,
    "aws_iam_policy": policy,
    "aws_iam_role_policy_attachment": role_attachment,
    "aws_iam_user": user,
    "aws_iam_user_policy_attachment": user_attachment,
    "aws_lambda_function": function,
    "aws_lambda_function_event_invoke_config": invoke_config,
    "aws_lambda_permission": permission,
    "aws_s3_bucket_notification": notification,
    "aws_cloudwatch_metric_alarm": alarm,
    "aws_budgets_budget": budget,
}


def resources(module: dict) -> list:
    """The managed resources of a module and of those within it."""
    own = [each for each in module.get("resources", []) if each["mode"] == "managed"]
    return own + [each for child in module.get("child_modules", []) for each in resources(child)]


def create(state: dict, endpoint: str) -> int:
    """Makes all calls, and says how many resources there were."""
    aws = Endpoint(endpoint)
    planned = resources(state["values"]["root_module"])
    unknown = sorted({each["type"] for each in planned} - CALLS.keys())
    if unknown:
        raise SystemExit(f"create.py does not know how to create {', '.join(unknown)}: add it to CALLS")
    order = list(CALLS)
    for each in sorted(planned, key=lambda each: order.index(each["type"])):
        call, values = CALLS[each["type"]], each["values"]
        if call:
            call(aws, values.get("region"), values)
    return len(planned)


def main() -> None:
    count = create(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2])
    print(f"created {count} resources")


if __name__ == "__main__":
    main()
