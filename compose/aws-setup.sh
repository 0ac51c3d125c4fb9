#!/bin/sh
# Makes the bucket and the two tables, unless they are there, and has NOTIFY told of every object. Run by the service
# aws-setup, and by hand: S3=http://localhost:9000 DYNAMODB=http://localhost:8001 BUCKET=... NOTIFY=arn:... compose/aws-setup.sh
set -eu

s3() { aws --endpoint-url "$S3" s3api "$@" >/dev/null; }
dynamodb() { aws --endpoint-url "$DYNAMODB" dynamodb "$@" >/dev/null; }

table() { # NAME PARTITION_KEY SORT_KEY
    dynamodb describe-table --table-name "$1" 2>/dev/null && return
    dynamodb create-table --table-name "$1" --billing-mode PAY_PER_REQUEST \
        --attribute-definitions "AttributeName=$2,AttributeType=S" "AttributeName=$3,AttributeType=S" \
        --key-schema "AttributeName=$2,KeyType=HASH" "AttributeName=$3,KeyType=RANGE"
}

s3 head-bucket --bucket "$BUCKET" 2>/dev/null || s3 create-bucket --bucket "$BUCKET" \
    --create-bucket-configuration "LocationConstraint=$AWS_DEFAULT_REGION"
s3 put-bucket-notification-configuration --bucket "$BUCKET" --notification-configuration \
    "{\"QueueConfigurations\": [{\"Id\": \"log-processor\", \"QueueArn\": \"$NOTIFY\", \"Events\": [\"s3:ObjectCreated:*\"]}]}"
table daily_summaries date service
table summary_contributions object part
echo "bucket $BUCKET with its notification, tables daily_summaries and summary_contributions are there"
