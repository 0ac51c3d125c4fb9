terraform {
  # 1.10 is the first whose S3 backend locks by a file of its own (examples/remote-state).
  required_version = ">= 1.10"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0, < 7.0"
    }
  }
}
