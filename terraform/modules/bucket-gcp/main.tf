# The same bucket on Google Cloud Storage, with keys for its S3-compatible interface. The exporter writes to it by
# endpoint https://storage.googleapis.com and s3_dialect "gcs"; the daily summaries are AWS's alone.

resource "google_storage_bucket" "logs" {
  #checkov:skip=CKV_GCP_62:a log of every access needs a second bucket and is paid for

  name                        = var.name
  location                    = var.location
  force_destroy               = var.force_destroy
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning {
    enabled = true
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }

    condition {
      age = var.abort_multipart_days
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      days_since_noncurrent_time = var.noncurrent_expire_days
    }
  }

  dynamic "lifecycle_rule" {
    for_each = var.transition_days == null ? [] : [var.transition_days]

    content {
      action {
        type          = "SetStorageClass"
        storage_class = "NEARLINE"
      }

      condition {
        age            = lifecycle_rule.value
        matches_prefix = ["${var.prefix}logs/"]
      }
    }
  }

  dynamic "lifecycle_rule" {
    for_each = var.expire_days == null ? [] : [var.expire_days]

    content {
      action {
        type = "Delete"
      }

      condition {
        age            = lifecycle_rule.value
        matches_prefix = ["${var.prefix}logs/"]
      }
    }
  }
}

resource "google_service_account" "exporter" {
  account_id   = var.exporter_account_id
  display_name = "smartlog exporter"
}

resource "google_storage_bucket_iam_member" "exporter" {
  bucket = google_storage_bucket.logs.name
  role   = "roles/storage.objectUser"
  member = "serviceAccount:${google_service_account.exporter.email}"
}

# Its secret lies in the state: keep that in a bucket that few can read.
resource "google_storage_hmac_key" "exporter" {
  service_account_email = google_service_account.exporter.email
}
